"""An image as the square of network input: fastai's `Resize` for validation, byte for byte."""

from typing import Literal

import numpy as np
from PIL import Image

from visionflows.images.color_profiles import attached_profile, convert_to_srgb
from visionflows.images.image_status import BadImage
from visionflows.images.pillow import no_pixel_limit

STRIP = 1 << 20  # pixels reflected at once
MAX_REFLECTED = 4_000_000_000  # pixels of a square: about ten seconds
ResizeMethod = Literal["crop", "squish", "pad"]


def resize_image(image: Image.Image, size: int, method: ResizeMethod) -> Image.Image:
    """The image at size × size, as fastai's `Resize(size, method)` makes it for validation.

    `crop` cuts the middle, `squish` changes the shape, `pad` reflects the edges. Order (crop, then
    bilinear resize) and rounding are those of fastai.vision.augment.Resize and CropPad. Colours of
    an image that was opened with a profile are then converted to sRGB. Raises BadImage if the
    reflected square would be too large.
    """
    resized = _resized(image, size, method)
    convert_to_srgb(resized, attached_profile(image))
    return resized


def _resized(image: Image.Image, size: int, method: ResizeMethod) -> Image.Image:
    width, height = image.size
    if method == "squish":
        return image.resize((size, size), Image.Resampling.BILINEAR)
    ratio = (min if method == "crop" else max)(width / size, height / size)
    side = max(int(ratio * size), 1)  # fastai rounds a line of pixels to 0: black
    left, top = int(0.5 * (width - side)), int(0.5 * (height - side))
    box = (max(left, 0), max(top, 0), min(left + side, width), min(top + side, height))
    with no_pixel_limit():
        image = image.crop(box)
        if image.size != (side, side):
            image = _reflected(image, size, side, (left, top))
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _reflected(image: Image.Image, size: int, side: int, corner: tuple[int, int]) -> Image.Image:
    """The image in a square of `side`, its edges reflected as torchvision's pad does.

    Rows are already resized to `size`, as Pillow resizes rows before columns: the full square of
    a panorama would take gigabytes.
    """
    if side * side > MAX_REFLECTED:
        reason = f"reflected to {side}×{side} pixels, more than the limit of {MAX_REFLECTED:,}"
        raise BadImage("too_large", reason)
    width, height = image.size
    before_x, before_y = max(-corner[0], 0), max(-corner[1], 0)
    after_x, after_y = max(side - width - before_x, 0), max(side - height - before_y, 0)
    narrow = Image.new("RGB", (size, height))
    rows = max(STRIP // side, 1)
    for top in range(0, height, rows):
        strip = np.asarray(image.crop((0, top, width, min(top + rows, height))))
        strip = np.pad(strip, ((0, 0), (before_x, after_x), (0, 0)), mode="reflect")
        rows_of = (size, len(strip))
        narrow.paste(Image.fromarray(strip).resize(rows_of, Image.Resampling.BILINEAR), (0, top))
    around = ((before_y, after_y), (0, 0), (0, 0))
    return Image.fromarray(np.pad(np.asarray(narrow), around, mode="reflect"))
