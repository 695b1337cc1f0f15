"""A picture as the square a network is shown: fastai's `Resize` for validation, to the byte.

from visionflows.images.resize import resized
resized(open_image("photo.jpg"), 224, "crop")
"""

from typing import Literal

import numpy as np
from PIL import Image

from visionflows.images.image_status import BadImage
from visionflows.images.pillow import ours

STRIP = 1 << 20  # pixels that are reflected at once
MOST_REFLECTED = 4_000_000_000  # pixels of a square: some ten seconds
ResizeMethod = Literal["crop", "squish", "pad"]


def resize_image(image: Image.Image, size: int, method: ResizeMethod) -> Image.Image:
    """The image at size × size as fastai's `Resize(size, method)` gives it for validation.

    `crop` cuts the middle, `squish` changes the shape, `pad` reflects the edges. The order
    (cut first, then a bilinear resize) and the roundings are fastai's
    (fastai.vision.augment.Resize and CropPad), so that the pixels are equal. Raises BadImage
    for a line of pixels that no square can hold.
    """
    width, height = image.size
    if method == "squish":
        return image.resize((size, size), Image.Resampling.BILINEAR)
    ratio = (min if method == "crop" else max)(width / size, height / size)
    side = max(int(ratio * size), 1)  # a line of pixels: fastai rounds some to 0, and shows black
    left, top = int(0.5 * (width - side)), int(0.5 * (height - side))
    box = (max(left, 0), max(top, 0), min(left + side, width), min(top + side, height))
    with ours(width * height):  # it was opened, so it may be cut
        image = image.crop(box)
        if image.size != (side, side):
            image = _reflected(image, size, side, (left, top))
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _reflected(image: Image.Image, size: int, side: int, corner: tuple[int, int]) -> Image.Image:
    """The image in a square of `side`, its edges reflected outwards as torchvision's pad does.

    Its rows are already resized to `size`, as Pillow resizes rows before columns: of a panorama
    the square itself would take gigabytes.
    """
    if side * side > MOST_REFLECTED:
        reason = f"reflected to {side}×{side} pixels, more than the limit of {MOST_REFLECTED:,}"
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
