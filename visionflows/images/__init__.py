"""From a file's bytes to pixels, the same for training and for scoring; metadata; near-duplicates.

Nothing here knows where the bytes come from.
"""
