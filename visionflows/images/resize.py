"""A picture as the square a network is shown: fastai's `Resize` for validation, to the byte.

from visionflows.images.resize import resized
resized(open_image("photo.jpg"), 224, "crop")
"""

from typing import Literal

import numpy as np
from PIL import Image

from visionflows.images.pillow import ours

ResizeMethod = Literal["crop", "squish", "pad"]


def resized(image: Image.Image, size: int, method: ResizeMethod) -> Image.Image:
    """The image at size × size as fastai's `Resize(size, method)` gives it for validation.

    `crop` cuts the middle, `squish` changes the shape, `pad` reflects the edges. The order
    (cut first, then a bilinear resize) and the roundings are fastai's
    (fastai.vision.augment.Resize and CropPad), so that the pixels are equal.
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
        image = _reflected(image, side, left, top)
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _reflected(image: Image.Image, side: int, left: int, top: int) -> Image.Image:
    """The image in a square of `side`, its edges reflected outwards as torchvision's pad does."""
    array = np.asarray(image)
    before_x, before_y = max(-left, 0), max(-top, 0)
    after_x = max(side - array.shape[1] - before_x, 0)
    after_y = max(side - array.shape[0] - before_y, 0)
    return Image.fromarray(
        np.pad(array, ((before_y, after_y), (before_x, after_x), (0, 0)), mode="reflect")
    )
