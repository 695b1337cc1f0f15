"""Any mode and depth of a picture as 8-bit RGB: what a network is shown.

from visionflows.images.depth import to_rgb
to_rgb(Image.open("16-bit.tif"))
"""

import numpy as np
from PIL import Image


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in mode RGB; deep greys are scaled rather than clipped."""
    if image.mode == "RGB":
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled_grey(np.asarray(image)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # the same colours, without Pillow's warning
    return image.convert("RGB")


def _scaled_grey(values: np.ndarray) -> Image.Image:
    """Deep grey values as 8 bits, scaled by the range of their type rather than clipped.

    16-bit values are parts of 65,535. A 32-bit image (Pillow's modes I and F) does not say
    what its white is: it is taken to be 1 for floats up to 1, else the least of 255, 65,535
    and 2³² - 1 that holds the brightest pixel.
    """
    deep = np.nan_to_num(values.astype(np.float64)).clip(min=0)
    peak = float(deep.max(initial=0.0))
    if values.dtype.itemsize == 2:
        white = 65_535.0
    elif values.dtype.kind == "f" and peak <= 1:
        white = 1.0
    else:
        white = next((top for top in (255.0, 65_535.0) if peak <= top), 2.0**32 - 1)
    return Image.fromarray((deep * (255.0 / white)).round().clip(max=255).astype(np.uint8))
