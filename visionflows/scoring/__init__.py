"""A scoring run: work list, shards, resume, result, exports. Every file found gets one row."""
