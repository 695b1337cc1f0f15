"""A folder or archive of images into a fine-tuned classifier, and folders of images into a CSV.

The library: it runs in a notebook without Prefect.
"""
