"""Training by several worker processes, one per GPU."""
