"""From what a person names to a labelled file table: fetched, unpacked, labelled, split.

Here belongs what a dataset is before anything is trained on it.
"""
