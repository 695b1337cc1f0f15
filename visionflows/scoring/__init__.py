"""A scoring run: work list, shards, resume, result. Every file found gets one row."""
