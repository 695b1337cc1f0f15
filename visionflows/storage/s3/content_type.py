"""What a browser shall do with a file that it is given by a bucket.

from visionflows.storage.s3.content_type import content_headers
content_headers("report.html")["ContentDisposition"] == "inline"
"""

import mimetypes
import re
from typing import Any


def content_headers(key: str) -> dict[str, Any]:
    """Content type and disposition: pages and pictures open in a browser, tables are saved."""
    name = key.rpartition("/")[2]
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    shown = kind in ("text/html", "application/json") or kind.startswith("image/")
    if kind.startswith("text/") or kind == "application/json":
        kind += "; charset=utf-8"
    if not shown and re.fullmatch(r"[\w.-]+\.csv", name, re.ASCII):
        return {"ContentType": kind, "ContentDisposition": f'attachment; filename="{name}"'}
    return {"ContentType": kind} | ({"ContentDisposition": "inline"} if shown else {})
