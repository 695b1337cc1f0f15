"""What is measured of a trained network before it is published."""
