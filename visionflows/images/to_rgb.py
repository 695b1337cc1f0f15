"""Any mode and bit depth as 8-bit RGB: deep values scaled, transparency laid on white, reduced.

Images are converted in strips, so that no second copy of a large one is made.
"""

import functools
import logging
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from visionflows.images import tiff

log = logging.getLogger("visionflows.images")

STRIP = 1 << 18  # pixels converted at once: as float64 they take 2 MB
OVERSHOOT = 0.01  # of the pixels may lie outside an assumed range; they are clipped
ConvertStrip = Callable[[Image.Image], Image.Image]


def to_rgb(
    image: Image.Image, factor: int = 1, from_cmyk: ConvertStrip | None = None
) -> Image.Image:
    """The image in mode RGB; deep grey values are scaled rather than clipped.

    `factor` pixels become one in each direction, by their mean (Pillow's Image.reduce). The
    remainder is cut from both sides, so that the middle stays the middle. `from_cmyk` makes RGB of
    a strip in CMYK; by default Pillow does, without a profile.
    """
    convert, size = _converter(image), (image.width // factor, image.height // factor)
    if from_cmyk and image.mode == "CMYK":
        convert = from_cmyk
    left, top = image.width % factor // 2, image.height % factor // 2
    box = (left, top, left + factor * size[0], top + factor * size[1])
    if convert is None:
        return image if factor == 1 else image.reduce(factor, box)
    rgb = Image.new("RGB", size)
    for top, strip in strips(image, box, factor):
        rgb.paste(convert(strip).reduce(factor), (0, top // factor))
    return rgb


def _converter(image: Image.Image) -> ConvertStrip | None:
    """What makes RGB of a strip of the image; None if the image is RGB already."""
    if image.mode == "F" or image.mode.startswith("I"):
        transparent = image.info.get("transparency")
        return functools.partial(_deep_to_rgb, range=_range(image), transparent=transparent)
    if image.has_transparency_data:
        return _on_white
    tags = tiff.grey_tags(image) if image.mode == "L" else None
    if tags and tags.sample_format == tiff.SIGNED:  # Pillow takes the bytes as unsigned
        return lambda strip: strip.point(lambda value: value ^ 128).convert("RGB")
    return None if image.mode == "RGB" else lambda strip: strip.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """The image in mode RGB, laid on white."""
    if image.mode == "La":
        image = image.convert("LA")
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    background = Image.new("RGB", image.size, "white")
    background.paste(image, mask=image)
    return background


def _deep_to_rgb(
    strip: Image.Image, range: tuple[float, float], transparent: int | None
) -> Image.Image:
    """Deep grey values as RGB: the first value of `range` is black, the second white."""
    black, white = range
    values = np.asarray(strip)
    deep = np.nan_to_num(values.astype(np.float64), posinf=1e300)
    deep = (deep - black) * (255.0 / (white - black))
    grey = deep.round().clip(0, 255).astype(np.uint8)
    if transparent is not None:
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _range(image: Image.Image) -> tuple[float, float]:
    """The values of a deep grey image that are black and white, as its file declares them.

    TIFF declares bits, sign, photometric interpretation, and smallest and largest sample value.
    Samples of 32 bits, or with a sign, that declare no range are assumed to use the smallest of 1
    (floats), 255, 65,535 and 2³² - 1 that holds all but OVERSHOOT of the pixels.
    """
    tags = tiff.grey_tags(image)
    if tags is None:
        if image.format == "PPM":
            return 0.0, 1.0 if image.mode == "F" else 65_535.0  # a PFM is 0..1
        return 0.0, 65_535.0 if image.mode.startswith("I;16") else _assumed_white(image)
    if tags.range:
        black, white = tags.range
    elif tags.sample_format == tiff.UNSIGNED and tags.bits <= 16:
        black, white = 0.0, 2.0**tags.bits - 1
    elif tags.sample_format == tiff.SIGNED and tags.bits <= 16:
        black, white = _assumed_signed_range(image, tags.bits)
    else:
        black, white = 0.0, _assumed_white(image)
    return (white, black) if tags.inverted else (black, white)


def _assumed_signed_range(image: Image.Image, bits: int) -> tuple[float, float]:
    """The full range of the type; its upper half if hardly a pixel is negative."""
    _log_assumption()
    below = sum(int((values < 0).sum()) for values in _values(image))
    full = below > OVERSHOOT * image.width * image.height
    return -(2.0 ** (bits - 1)) if full else 0.0, 2.0 ** (bits - 1) - 1


def _assumed_white(image: Image.Image) -> float:
    _log_assumption()
    whites = [1.0] * (image.mode == "F") + [255.0, 65_535.0]
    above = np.zeros(len(whites), int)
    for values in _values(image):
        above += [int((values > white).sum()) for white in whites]
    allowed = OVERSHOOT * image.width * image.height
    return next((w for w, a in zip(whites, above, strict=True) if a <= allowed), 2.0**32 - 1)


@functools.cache
def _log_assumption() -> None:
    """Log once a process that ranges are assumed; the file is not known here."""
    log.info(
        "images of 32 bits or with a sign without a declared range are scaled by an assumed one: "
        "white is the smallest of 1 (floats), 255, 65,535 … that holds all but %g %% of pixels",
        100 * OVERSHOOT,
    )


def _values(image: Image.Image) -> Iterator[np.ndarray]:
    return (np.asarray(strip) for _, strip in strips(image, (0, 0, *image.size)))


def strips(
    image: Image.Image, box: tuple[int, int, int, int], factor: int = 1
) -> Iterator[tuple[int, Image.Image]]:
    """The content of a box in strips of a multiple of `factor` rows, each with its first row."""
    left, top, right, bottom = box
    rows = max(STRIP // (right - left) // factor, 1) * factor
    for at in range(top, bottom, rows):
        yield at - top, image.crop((left, at, right, min(at + rows, bottom)))
