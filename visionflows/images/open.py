"""The one way an image file becomes pixels, for training and for scoring.

    from visionflows.images.open import open_image
    open_image("photo.jpg")                          # what the network is shown, before resizing

What is done to every image: the first frame of an animation, EXIF orientation applied (fastai
alone does not), any mode to 8-bit RGB with deep greys scaled rather than clipped, a limit on
pixels. Truncated files are refused, not half shown. Resizing is fastai's `Resize` for the
validation side, to the byte.
"""

import contextlib
import errno
import io
import os
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from visionflows.content import TooLarge, content_of
from visionflows.images.depth import to_rgb
from visionflows.images.formats import FORMATS
from visionflows.images.memory import MAX_PIXELS, Memory, memory_of_process
from visionflows.images.pillow import check_pixels, ours
from visionflows.images.resize import ResizeMethod, resized
from visionflows.images.status import BadImage

LONGEST_REASON = 300  # characters of what a decoder says
_UPRIGHT: dict[object, Image.Transpose] = {  # EXIF orientation: what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(
    source: str | os.PathLike[str] | bytes,
    max_pixels: int = MAX_PIXELS,
    memory: Memory | None = None,
) -> Image.Image:
    """The picture in a file or in the bytes of one, upright, mode RGB, 8 bits a channel.

    `memory` is shared with other decoders: by default, with those of this process. Raises
    BadImage with a status and a reason, and nothing else, whatever the bytes are.
    """
    with _reasons(), _opened(source, max_pixels, memory) as image:
        return image.copy() if isinstance(image, ImageFile) else image  # without the file's bytes


def pixels(
    source: str | os.PathLike[str] | bytes,
    size: int,
    method: ResizeMethod,
    max_pixels: int = MAX_PIXELS,
    memory: Memory | None = None,
) -> np.ndarray:
    """The uint8 array (size, size, 3) that a network is shown; as open_image. Raises BadImage."""
    with _reasons(), _opened(source, max_pixels, memory) as image:
        return np.asarray(resized(image, size, method))


@contextlib.contextmanager
def _opened(
    source: str | os.PathLike[str] | bytes, max_pixels: int, memory: Memory | None
) -> Iterator[Image.Image]:
    """The picture of open_image, and the room that it takes for the block."""
    memory = memory or memory_of_process(max_pixels)
    data = source if isinstance(source, bytes) else read_file(source, memory)
    if not data:
        raise BadImage("unreadable", "empty file (0 bytes)")
    with ours(max_pixels), Image.open(io.BytesIO(data), formats=FORMATS) as file:
        check_pixels(file.size, max_pixels)
        memory.check(file)
        with memory.picture(file):
            file.load()
            image = _upright(to_rgb(file), file)
            if image is not file:
                file.close()  # its pixels are no longer needed
            yield image


def read_file(path: str | os.PathLike[str], memory: Memory | None = None) -> bytes:
    """A file's bytes. Raises BadImage, as why_unread says."""
    most = (memory or memory_of_process(MAX_PIXELS)).encoded
    try:
        return content_of(path, most)
    except OSError as error:
        raise why_unread(error, most) from error


def why_unread(error: OSError, most: int) -> BadImage:
    """The status and reason of a file that could not be read, or has more bytes than `most`."""
    if isinstance(error, TooLarge):
        return BadImage("too_large", f"{error.size:,} bytes, more than the limit of {most:,}")
    if isinstance(error, FileNotFoundError):
        return BadImage("missing", "the file was gone when it was read")
    if error.errno == errno.ENOMEM:
        return BadImage("too_large", "not enough memory to read it")
    return BadImage("unreadable", f"cannot be read: {error.strerror or error}")


def _upright(image: Image.Image, file: Image.Image) -> Image.Image:
    """The picture turned as the EXIF block of its file says, where that can be read."""
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation)
    except SyntaxError:  # Pillow's word for an EXIF block without its header
        orientation = None
    method = _UPRIGHT.get(orientation or 0)
    return image if method is None else image.transpose(method)


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
        raise BadImage("unreadable", _line(error)) from error


def _line(error: Exception) -> str:
    """What an error says, on one line of a length that a table takes."""
    said = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return f"{type(error).__name__}: {' '.join(said[:LONGEST_REASON].split())}"
