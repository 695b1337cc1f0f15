"""Small JPEGs of images for pages, plain or under a Grad-CAM heat map."""

import io
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from visionflows.images.decode_options import DecodeOptions
from visionflows.images.image_status import BadImage
from visionflows.images.memory_limits import MAX_PIXELS, shared_memory_limits
from visionflows.images.open import open_image
from visionflows.storage.base import LISTED, Entry, Storage
from visionflows.storage.name_encoding import decode_name

THUMBNAIL = 160  # pixels of the longest side
_COLD, _HOT = np.array([255.0, 225.0, 0.0]), np.array([215.0, 0.0, 20.0])  # yellow to red
_OPACITY = 0.65  # of the hottest colour


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
    small = open_image(data, decode_options=DecodeOptions(side // 2, color_profiles="convert"))
    small.thumbnail((side, side))
    return _encode_jpeg(small)


def encode_pixels(pixels: np.ndarray) -> bytes:
    """A JPEG of 160 × 160 pixels from uint8 pixels (side, side, 3)."""
    return _encode_jpeg(_resize(Image.fromarray(pixels)))


def draw_heat_map(pixels: np.ndarray, heat: np.ndarray) -> bytes:
    """A JPEG of 160 × 160 pixels: the faded image under a heat map from yellow to red.

    `pixels` are uint8 (side, side, 3); `heat` is 0..1 (height, width) and is resized to the image.
    """
    resized = _resize(Image.fromarray(heat.astype(np.float32)))
    strength = np.asarray(resized).clip(0, 1)[..., None]
    picture = _resize(Image.fromarray(pixels))
    grey = np.asarray(picture.convert("L"), np.float32)[..., None]
    faded = 0.55 * np.asarray(picture, np.float32) + 0.45 * (0.6 * grey + 0.4 * 255)
    colour = _COLD + (_HOT - _COLD) * strength
    mixed = faded + (colour - faded) * (_OPACITY * strength)
    return _encode_jpeg(Image.fromarray(mixed.clip(0, 255).astype(np.uint8)))


def _resize(picture: Image.Image) -> Image.Image:
    return picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)


def _encode_jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
