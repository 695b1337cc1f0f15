"""HTML pages: one module and one template per page, one stylesheet.

Each page is a single file that needs no network: photos are embedded, charts are SVG.
"""
