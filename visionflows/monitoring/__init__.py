"""Run records, and whether a run drifted from those before it."""
