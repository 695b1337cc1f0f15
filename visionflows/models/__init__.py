"""What a model is when nobody is training it: its bundle, its network, its names in the store.

Here belongs what scoring needs of a model; how one is trained, and judged, lies in `training`.
"""
