"""What a network was shown of a picture, and the same under a map of what spoke for its label.

from visionflows.reports.gradcam_images import heated, square
square(pixels), heated(pixels, heat)                        # JPEGs
"""

import io

import numpy as np
from PIL import Image

from visionflows.reports.thumbnails import THUMBNAIL

_COLD, _HOT = np.array([255.0, 225.0, 0.0]), np.array([215.0, 0.0, 20.0])  # yellow to red
_SIZE = THUMBNAIL, THUMBNAIL
_MOST = 0.65  # of a pixel's colour that heat may take


def square(pixels: np.ndarray) -> bytes:
    """A JPEG of 160 × 160 of uint8 pixels (side, side, 3)."""
    return _jpeg(_square(pixels))


def heated(pixels: np.ndarray, heat: np.ndarray) -> bytes:
    """A JPEG of 160 × 160 of uint8 pixels (side, side, 3): pale where nothing spoke, else red.

    `heat` is 0..1, (height, width), of any size: it is stretched over the picture.
    """
    soft = Image.fromarray(heat.astype(np.float32)).resize(_SIZE, Image.Resampling.BICUBIC)
    strength = np.asarray(soft).clip(0, 1)[..., None]
    picture = _square(pixels)
    grey = np.asarray(picture.convert("L"), np.float32)[..., None]
    ground = 0.55 * np.asarray(picture, np.float32) + 0.45 * (0.6 * grey + 0.4 * 255)
    colour = _COLD + (_HOT - _COLD) * strength
    mixed = ground + (colour - ground) * (_MOST * strength)
    return _jpeg(Image.fromarray(mixed.clip(0, 255).astype(np.uint8)))


def _square(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).resize(_SIZE, Image.Resampling.BICUBIC)


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
