"""HTML pages, each a single file that needs no network: one module and one template per page."""
