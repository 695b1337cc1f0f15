"""The pages a person opens first, a file each with its template; and the one stylesheet.

Each is one file that needs no network: pictures are in it, charts are SVG made here. Here belongs
how a result looks; what it says comes from whoever asks for the page.
"""
