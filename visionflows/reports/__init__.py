"""HTML pages, each a single file that needs no network: one module and one template per page.

The templates also make the pages of a terminal (.txt) and of the Prefect UI (.md).
"""
