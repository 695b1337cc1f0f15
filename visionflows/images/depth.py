"""Any mode and depth of a picture as 8-bit RGB: what a network is shown.

from visionflows.images.depth import to_rgb
to_rgb(Image.open("16-bit.tif"))
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

STRIP = 1 << 18  # pixels that are scaled at once: as float64 they take some MB


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in mode RGB; deep greys are scaled rather than clipped."""
    if image.mode == "RGB":
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled_grey(image)
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # the same colours, without Pillow's warning
    return image.convert("RGB")


def _scaled_grey(image: Image.Image) -> Image.Image:
    """Deep grey values as 8 bits, scaled by the range of their type rather than clipped.

    16-bit values are parts of 65,535. A 32-bit image (Pillow's modes I and F) does not say
    what its white is: it is taken to be 1 for floats up to 1, else the least of 255, 65,535
    and 2³² - 1 that holds the brightest pixel.
    """
    if image.mode.startswith("I;16"):
        white = 65_535.0
    else:
        peak = max(float(deep.max()) for _, deep in _strips(image))
        if image.mode == "F" and peak <= 1:
            white = 1.0
        else:
            white = next((top for top in (255.0, 65_535.0) if peak <= top), 2.0**32 - 1)
    shown = Image.new("RGB", image.size)
    for top, deep in _strips(image):
        grey = (deep * (255.0 / white)).round().clip(max=255).astype(np.uint8)
        shown.paste(Image.fromarray(grey), (0, top))
    return shown


def _strips(image: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    """The picture as rows of values from 0 up, a strip at a time, each with its first row."""
    width, height = image.size
    rows = max(STRIP // width, 1)
    for top in range(0, height, rows):
        strip = np.asarray(image.crop((0, top, width, min(top + rows, height))))
        yield top, np.nan_to_num(strip.astype(np.float64)).clip(min=0)
