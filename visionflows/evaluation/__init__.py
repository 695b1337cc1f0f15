"""How far predictions can be believed: calibration, thresholds, outliers, label issues, Grad-CAM."""
