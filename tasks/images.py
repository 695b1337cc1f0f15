"""The one way an image file becomes pixels, for training and for scoring.

    from tasks.images import open_image
    open_image("photo.jpg")                          # what the network is shown, before resizing

What is done to every image: the first frame of an animation, EXIF orientation applied (fastai
alone does not), any mode to 8-bit RGB with deep greys scaled rather than clipped, a limit on
pixels. Truncated files are refused, not half shown. Resizing is fastai's `Resize` for the
validation side, to the byte.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

Status = Literal["ok", "unreadable", "too_large", "missing", "fetch_failed"]
STATUSES: tuple[Status, ...] = ("ok", "unreadable", "too_large", "missing", "fetch_failed")
ResizeMethod = Literal["crop", "squish", "pad"]

# A 100-megapixel camera's picture passes; decoded it takes 300 MB.
MAX_PIXELS = 100_000_000
# Pillow's own limit would warn or raise; ours is told as a row before a pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
# A damaged EXIF block is no reason to refuse a picture, nor to fill a log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
# Formats are told by content, so a file of any name reaches each of these decoders. Not among
# them: EPS, for which Pillow starts Ghostscript on the file, and ICO, which it decodes before
# its size can be asked.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000"),
    "TGA",  # last: it has no signature, and tries whatever is left
)
_UPRIGHT = {  # EXIF orientation: what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(Exception):
    """An image that cannot be shown to a network: the status and reason of its row."""

    def __init__(self, status: Status, reason: str):
        super().__init__(reason)
        self.status: Status = status
        self.reason = reason


def open_image(source: str | os.PathLike | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in a file or in the bytes of one, upright, mode RGB, 8 bits a channel.

    Raises BadImage with a status and a reason, and nothing else, whatever the bytes are.
    """
    data = source if isinstance(source, bytes) else read_file(source)
    if not data:
        raise BadImage("unreadable", "empty file (0 bytes)")
    with _reasons(), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise BadImage(
                "too_large", f"{width}×{height} pixels, more than the limit of {max_pixels:,}"
            )
        image.load()
        return _to_rgb(_upright(image))


def read_file(path: str | os.PathLike) -> bytes:
    """A file's bytes. Raises BadImage: `missing` if it is gone, else `unreadable`."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise BadImage("missing", "the file was gone when it was read") from error
    except OSError as error:
        raise BadImage("unreadable", f"cannot be read: {error.strerror}") from error


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
    image = image.crop(
        (max(left, 0), max(top, 0), min(left + side, width), min(top + side, height))
    )
    if image.size != (side, side):
        image = _reflected(image, side, left, top)
    return image.resize((size, size), Image.Resampling.BILINEAR)


def pixels(
    source: str | os.PathLike | bytes, size: int, method: ResizeMethod, limit: int
) -> np.ndarray:
    """The uint8 array (size, size, 3) that a network is shown. Raises BadImage."""
    return np.asarray(resized(open_image(source, limit), size, method))


def _reflected(image: Image.Image, side: int, left: int, top: int) -> Image.Image:
    """The image in a square of `side`, its edges reflected outwards as torchvision's pad does."""
    array = np.asarray(image)
    before_x, before_y = max(-left, 0), max(-top, 0)
    after_x = max(side - array.shape[1] - before_x, 0)
    after_y = max(side - array.shape[0] - before_y, 0)
    return Image.fromarray(
        np.pad(array, ((before_y, after_y), (before_x, after_x), (0, 0)), mode="reflect")
    )


def _upright(image: Image.Image) -> Image.Image:
    """A copy, turned as its EXIF block says, where that can be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except SyntaxError:  # Pillow's word for an EXIF block without its header
        orientation = None
    method = _UPRIGHT.get(orientation)
    return image.copy() if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> Image.Image:
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


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever a decoder makes of hostile bytes into the status and reason of a row."""
    try:
        yield
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage("unreadable", "not an image in a format that can be read") from error
    except MemoryError as error:
        raise BadImage("too_large", "not enough memory to decode it") from error
    except Exception as error:  # decoders raise what they like; each is its file's reason
        raise BadImage("unreadable", f"{type(error).__name__}: {error}") from error
