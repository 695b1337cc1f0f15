"""Small JPEGs of images for pages."""

import io
from collections.abc import Iterable, Iterator

from visionflows.images.decode_options import DecodeOptions
from visionflows.images.image_status import BadImage
from visionflows.images.memory_limits import MAX_PIXELS, shared_memory_limits
from visionflows.images.open import open_image
from visionflows.storage.base import LISTED, Entry, Storage
from visionflows.storage.name_encoding import decode_name

THUMBNAIL = 160  # pixels of the longest side


def read_thumbnail(source: Storage, path: str) -> bytes:
    """A JPEG of a file with at most 160 pixels a side; empty if it is missing or unreadable."""
    try:
        return shrink_to_jpeg(read_content(source, path))
    except (BadImage, OSError):
        return b""


def read_content(source: Storage, path: str) -> bytes:
    """The bytes of a file. Raises OSError if it is missing, or larger than a run reads."""
    (content,) = read_contents(source, [path])
    if isinstance(content, OSError):
        raise content
    return content


def read_contents(source: Storage, paths: Iterable[str]) -> Iterator[bytes | OSError]:
    """The bytes of files, in order; for a file that cannot be read, its OSError."""
    entries = (Entry(decode_name(path), 0, LISTED) for path in paths)
    return source.read_many(entries, shared_memory_limits(MAX_PIXELS).encoded)


def shrink_to_jpeg(data: bytes, side: int = THUMBNAIL) -> bytes:
    """A JPEG of an encoded image with at most `side` pixels a side. Raises BadImage."""
    # JPEG photos are decoded at a reduced size.
    small = open_image(data, decode_options=DecodeOptions(side=side // 2)).convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
