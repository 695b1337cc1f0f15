"""Files for the image tests, and the errors of unreadable ones."""

import struct
import zlib

import pytest
from PIL import Image

from visionflows.images.decode_options import WHOLE, DecodeOptions
from visionflows.images.image_status import BadImage
from visionflows.images.memory_limits import MAX_PIXELS, MemoryLimits
from visionflows.images.open import open_decoded, open_image


def refused(source, **options) -> tuple[str, str]:
    """The status and error of a source that cannot be opened."""
    with pytest.raises(BadImage) as caught:
        open_image(source, **options)
    assert caught.value.reason == str(caught.value)
    return caught.value.status, caught.value.reason


def size_of(source, max_pixels=MAX_PIXELS, decode_options=WHOLE) -> tuple[int, int]:
    """Width and height of the full upright image."""
    with open_decoded(source, MemoryLimits(max_pixels), decode_options) as picture:
        return picture.size


def decoded_within(
    memory: MemoryLimits, source, decode_options: DecodeOptions = WHOLE
) -> Image.Image:
    """The image, decoded within these limits."""
    with open_decoded(source, memory, decode_options) as picture:
        return picture.image.copy()


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG of one bit a pixel, with `rows` as its compressed rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
