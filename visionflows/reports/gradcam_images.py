"""JPEGs of the pixels a network saw, plain or under a Grad-CAM heat map."""

import io

import numpy as np
from PIL import Image

from visionflows.reports.thumbnails import THUMBNAIL

_COLD, _HOT = np.array([255.0, 225.0, 0.0]), np.array([215.0, 0.0, 20.0])  # yellow to red
_SIZE = THUMBNAIL, THUMBNAIL
_OPACITY = 0.65  # of the hottest colour


def encode_pixels(pixels: np.ndarray) -> bytes:
    """A JPEG of 160 × 160 pixels from uint8 pixels (side, side, 3)."""
    return _encode_jpeg(_resize(pixels))


def draw_heat_map(pixels: np.ndarray, heat: np.ndarray) -> bytes:
    """A JPEG of 160 × 160 pixels: the faded image under a heat map from yellow to red.

    `pixels` are uint8 (side, side, 3); `heat` is 0..1 (height, width) and is resized to the image.
    """
    resized = Image.fromarray(heat.astype(np.float32)).resize(_SIZE, Image.Resampling.BICUBIC)
    strength = np.asarray(resized).clip(0, 1)[..., None]
    picture = _resize(pixels)
    grey = np.asarray(picture.convert("L"), np.float32)[..., None]
    faded = 0.55 * np.asarray(picture, np.float32) + 0.45 * (0.6 * grey + 0.4 * 255)
    colour = _COLD + (_HOT - _COLD) * strength
    mixed = faded + (colour - faded) * (_OPACITY * strength)
    return _encode_jpeg(Image.fromarray(mixed.clip(0, 255).astype(np.uint8)))


def _resize(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).resize(_SIZE, Image.Resampling.BICUBIC)


def _encode_jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
