"""Evaluation: calibration, thresholds, outliers, label issues, Grad-CAM and statistics."""
