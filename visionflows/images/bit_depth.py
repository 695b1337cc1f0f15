"""Any mode and depth of a picture as 8-bit RGB, on white and reduced: what a network is shown.

    from visionflows.images.bit_depth import to_rgb
    to_rgb(Image.open("16-bit.tif"))

It works through the picture in strips, so that of a large one no second copy is made.
"""

import functools
import logging
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from visionflows.images import tiff
from visionflows.images.decode_options import WHOLE, DecodeOptions
from visionflows.images.transparency import on_white

log = logging.getLogger("visionflows.images")

STRIP = 1 << 18  # pixels that are shown at once: as float64 they take some MB
OVERSHOOT = 0.01  # of the pixels of a guess may lie above white, or below 0: they are clipped
Strip = Callable[[Image.Image], Image.Image]


def to_rgb(
    image: Image.Image, decode_options: DecodeOptions = WHOLE, factor: int = 1
) -> Image.Image:
    """The picture in mode RGB; deep greys are scaled rather than clipped.

    `factor` is how many pixels become one each way, by their mean (Pillow's Image.reduce); what
    is left over is cut from both sides, so that the middle stays the middle.
    """
    shown, size = _shown(image, decode_options), (image.width // factor, image.height // factor)
    left, top = image.width % factor // 2, image.height % factor // 2
    box = (left, top, left + factor * size[0], top + factor * size[1])
    if shown is None:
        return image if factor == 1 else image.reduce(factor, box)
    whole = Image.new("RGB", size)
    for top, strip in _strips(image, box, factor):
        strip = shown(strip)
        whole.paste(strip if factor == 1 else strip.reduce(factor), (0, top // factor))
    return whole


def _shown(image: Image.Image, decode_options: DecodeOptions) -> Strip | None:
    """What makes RGB of a strip of the picture; None where it is RGB as it is."""
    clear = decode_options.transparency == "white" and image.has_transparency_data
    if image.mode == "F" or image.mode.startswith("I"):
        value = image.info.get("transparency") if clear else None
        return functools.partial(_grey, scale=_scale(image, decode_options), clear=value)
    if clear:
        return on_white
    if decode_options.depth == "declared" and image.mode == "L":
        said = tiff.said(image)
        if said and said.kind == tiff.SIGNED:  # Pillow takes the bytes as they are
            return lambda strip: strip.point(lambda value: value ^ 128).convert("RGB")
    if image.mode == "RGB":
        return None
    if image.mode == "P" and "transparency" in image.info:
        # The same colours, without Pillow's warning.
        return lambda strip: strip.convert("RGBA").convert("RGB")
    return lambda strip: strip.convert("RGB")


def _grey(strip: Image.Image, scale: tuple[float, float], clear: int | None) -> Image.Image:
    """Deep values as RGB: the first of `scale` is black, the second white."""
    black, white = scale
    values = np.asarray(strip)
    deep = np.nan_to_num(values.astype(np.float64), posinf=1e300)
    deep = (deep - black) * (255.0 / (white - black))
    grey = deep.round().clip(0, 255).astype(np.uint8)
    if clear is not None:
        grey[values == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def _scale(image: Image.Image, decode_options: DecodeOptions) -> tuple[float, float]:
    """The values of a deep grey picture that are black and white.

    As the file says, by bits a sample, sign, photometric interpretation and smallest and largest
    sample value. What has 32 bits, or a sign, and says no range is taken to use the least of those
    that hold all but OVERSHOOT of its pixels: 1 (floats), 255, 65,535, 2³² - 1.
    """
    if decode_options.depth == "guessed":
        return 0.0, 65_535.0 if image.mode.startswith("I;16") else _brightest(image)
    said = tiff.said(image)
    if said is None:
        deep = image.mode.startswith("I;16") or image.format == "PPM"
        return 0.0, 65_535.0 if deep else _guess(image)
    if said.range:
        black, white = said.range
    elif said.kind == tiff.UNSIGNED and said.bits <= 16:
        black, white = 0.0, 2.0**said.bits - 1
    elif said.kind == tiff.SIGNED and said.bits <= 16:
        black, white = _signed(image, said.bits)
    else:
        black, white = 0.0, _guess(image)
    return (white, black) if said.inverted else (black, white)


def _signed(image: Image.Image, bits: int) -> tuple[float, float]:
    """All of the type, or its upper half for a picture that leaves the lower one to overshoot."""
    _tell_guess()
    below = sum(int((values < 0).sum()) for values in _values(image))
    whole = below > OVERSHOOT * image.width * image.height
    return -(2.0 ** (bits - 1)) if whole else 0.0, 2.0 ** (bits - 1) - 1


def _guess(image: Image.Image) -> float:
    _tell_guess()
    whites = [1.0] * (image.mode == "F") + [255.0, 65_535.0]
    above = np.zeros(len(whites), int)
    for values in _values(image):
        above += [int((values > white).sum()) for white in whites]
    most = OVERSHOOT * image.width * image.height
    return next((w for w, a in zip(whites, above, strict=True) if a <= most), 2.0**32 - 1)


def _brightest(image: Image.Image) -> float:
    """The white of models from before `depth` was recorded: the brightest pixel decides."""
    peak = max(float(np.nan_to_num(values.astype(np.float64)).max()) for values in _values(image))
    if image.mode == "F" and peak <= 1:
        return 1.0
    return next((top for top in (255.0, 65_535.0) if peak <= top), 2.0**32 - 1)


@functools.cache
def _tell_guess() -> None:
    """Once a process: which picture it was stands in no file."""
    log.info(
        "pictures of 32 bits, or with a sign, that do not say their range are scaled by guess: "
        "white is the least of 1 (floats), 255, 65,535 … that all but %g %% of pixels keep to",
        100 * OVERSHOOT,
    )


def _values(image: Image.Image) -> Iterator[np.ndarray]:
    return (np.asarray(strip) for _, strip in _strips(image, (0, 0, *image.size)))


def _strips(
    image: Image.Image, box: tuple[int, int, int, int], factor: int = 1
) -> Iterator[tuple[int, Image.Image]]:
    """What is in a box as strips of multiples of `factor` rows, each with its first row there."""
    left, top, right, bottom = box
    rows = max(STRIP // (right - left) // factor, 1) * factor
    for at in range(top, bottom, rows):
        yield at - top, image.crop((left, at, right, min(at + rows, bottom)))
