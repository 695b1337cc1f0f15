"""Small pictures for pages.

from visionflows.reports.thumbnails import thumbnail
thumbnail(place("inbox"), "2020/IMG_0001.JPG")              # a JPEG
"""

import io
from collections.abc import Iterable, Iterator

from visionflows.images.decode_options import DecodeOptions
from visionflows.images.image_status import BadImage
from visionflows.images.memory_limits import MAX_PIXELS, shared_memory_limits
from visionflows.images.open import open_image
from visionflows.storage.base import LISTED, Entry, Storage
from visionflows.storage.name_encoding import decode_name

THUMBNAIL = 160  # pixels of the longest side


def thumbnail(source: Storage, path: str) -> bytes:
    """A JPEG of a file in a place, its longest side 160 pixels or fewer.

    Empty for one that is gone, or cannot be opened any more.
    """
    try:
        return smaller(content(source, path))
    except (BadImage, OSError):
        return b""


def content(source: Storage, path: str) -> bytes:
    """The bytes of a file in a place, whatever has become of it since it was scored.

    Raises OSError for one that is gone, or larger than what a run would read.
    """
    (found,) = contents(source, [path])
    if isinstance(found, OSError):
        raise found
    return found


def contents(source: Storage, paths: Iterable[str]) -> Iterator[bytes | OSError]:
    """The same of several, in order; what `content` raises stands for one that is not there."""
    entries = (Entry(decode_name(path), 0, LISTED) for path in paths)
    return source.read_many(entries, shared_memory_limits(MAX_PIXELS).encoded)


def smaller(data: bytes, side: int = THUMBNAIL) -> bytes:
    """A JPEG of the picture in a file's bytes, its longest side so many pixels or fewer.

    Raises BadImage.
    """
    # Of photos no more than that needs is decoded.
    small = open_image(data, decode_options=DecodeOptions(side=side // 2)).convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
