"""Fetch, unpack, label and split a dataset: from its name to a file table."""
