"""From a file's bytes to pixels: the one way, for training and for scoring.

Here belongs how a picture is told, opened, turned and resized; not where its bytes come from.
"""
