"""Steps that measure a trained network before it is published; each adds to its checkpoint."""
