"""Results in other formats: pure functions from rows to lines."""
