"""Small pictures for pages.

from visionflows.reports.thumbnails import thumbnail
thumbnail(place("inbox"), "2020/IMG_0001.JPG")              # a JPEG
"""

import io

from visionflows.images.open import open_image
from visionflows.images.opening import Opening
from visionflows.images.status import BadImage
from visionflows.places.base import Place
from visionflows.places.names import name_of

THUMBNAIL = 160  # pixels of the longest side
_SMALL = Opening(side=THUMBNAIL // 2)  # of photos no more than thumbnails need is decoded


def thumbnail(source: Place, path: str) -> bytes:
    """A JPEG of a file in a place, its longest side 160 pixels or fewer.

    Empty for one that is gone, or cannot be opened any more.
    """
    try:
        small = open_image(source.read(name_of(path)), opening=_SMALL).convert("RGB")
    except (BadImage, OSError):
        return b""
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
