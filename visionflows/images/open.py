"""The one way an image file becomes pixels, for training and for scoring.

    from visionflows.images.open import open_image
    open_image("photo.jpg")                          # what the network is shown, before resizing

What is done to every image: the first frame of an animation, transparent parts on white, EXIF
orientation applied (fastai alone does not), any mode to 8-bit RGB with deep greys scaled rather
than clipped, a limit on pixels. Large ones are decoded smaller where a network's side is known.
Truncated files are refused, not half shown; damaged metadata is no reason to refuse one. Resizing
is fastai's `Resize` for the validation side, to the byte.
"""

import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from visionflows.bounded_read import TooLarge, read_bounded
from visionflows.images import tiff
from visionflows.images.bit_depth import to_rgb
from visionflows.images.decode_options import ENOUGH, WHOLE, DecodeOptions
from visionflows.images.formats import (
    CAMERA_RAW,
    HEAD,
    HEIF,
    JPEG,
    TIFF,
    UNTOLD,
    FileFormat,
    detect_format,
)
from visionflows.images.image_status import BadImage
from visionflows.images.jpeg import has_many_scans
from visionflows.images.memory_limits import MAX_PIXELS, MemoryLimits, shared_memory_limits
from visionflows.images.pillow import check_pixels, ours
from visionflows.images.repair import Version, heif_with_exif, versions
from visionflows.images.resize import ResizeMethod, resize_image
from visionflows.images.transparency import in_eight_bits

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
    memory: MemoryLimits | None = None,
    decode_options: DecodeOptions = WHOLE,
) -> Image.Image:
    """The picture in a file or in the bytes of one, upright, mode RGB, 8 bits a channel.

    `memory` is shared with other decoders: by default, with those of this process. Raises
    BadImage with a status and a reason, and nothing else, whatever the bytes are.
    """
    with open_decoded(source, max_pixels, memory, decode_options) as picture:
        image = picture.image
        return image.copy() if isinstance(image, ImageFile) else image  # without the file's bytes


def pixels(
    source: str | os.PathLike[str] | bytes,
    size: int,
    method: ResizeMethod,
    max_pixels: int = MAX_PIXELS,
    memory: MemoryLimits | None = None,
    decode_options: DecodeOptions = WHOLE,
) -> np.ndarray:
    """The uint8 array (size, size, 3) that a network is shown; as open_image. Raises BadImage."""
    with open_decoded(source, max_pixels, memory, decode_options) as picture:
        return picture.pixels(size, method)


class DecodedImage(NamedTuple):
    """A picture as open_image gives it, the size it has in its file, upright, and its EXIF."""

    image: Image.Image
    size: tuple[int, int]
    exif: Callable[[], Image.Exif]

    def pixels(self, size: int, method: ResizeMethod) -> np.ndarray:
        """The uint8 array (size, size, 3) that a network is shown."""
        return np.asarray(resize_image(self.image, size, method))


@contextlib.contextmanager
def open_decoded(
    source: str | os.PathLike[str] | bytes,
    max_pixels: int = MAX_PIXELS,
    memory: MemoryLimits | None = None,
    decode_options: DecodeOptions = WHOLE,
) -> Iterator[DecodedImage]:
    """The picture of open_image, with the room that it takes, for the block. Raises BadImage."""
    with _reasons(), _decoded(source, max_pixels, memory, decode_options) as picture:
        yield picture


@contextlib.contextmanager
def _decoded(
    source: str | os.PathLike[str] | bytes,
    max_pixels: int,
    memory: MemoryLimits | None,
    decode_options: DecodeOptions,
) -> Iterator[DecodedImage]:
    memory = memory or shared_memory_limits(max_pixels)
    data = source if isinstance(source, bytes) else read_image_file(source, memory)
    if not data:
        raise BadImage("unreadable", "empty file (0 bytes)")
    kind = detect_format(data[:HEAD])
    if kind and not kind.decoder:
        raise BadImage("unreadable", kind.refused)
    # How large a JPEG is decoded is known once it is open; it has 65,535 pixels a side at most.
    with ours(1 << 32 if kind is JPEG and decode_options.side else max_pixels):
        first: Exception | None = None
        for version in versions(data, kind.decoder if kind else ""):
            with contextlib.ExitStack() as room:
                try:
                    picture = _shown(version, kind, decode_options, (max_pixels, memory), room)
                except (BadImage, MemoryError):
                    raise
                except Exception as error:  # noqa: BLE001 (raised, if no other version is left)
                    first = first or error
                    continue
                if kind is HEIF:  # of which the version has none
                    picture = picture._replace(exif=lambda: _exif_of_heif(data))
                yield picture
                return
        raise _refusal(data, kind, first)


def _refusal(data: bytes, kind: FileFormat | None, error: Exception | None) -> Exception:
    """What is said of a file of which no version could be decoded."""
    if kind and isinstance(error, UnidentifiedImageError):
        reason = tiff.refused(data) if kind is TIFF else f"{kind.name}: its header cannot be read"
        return BadImage("unreadable", reason)
    if kind is TIFF and tiff.is_packed_otherwise(data):
        return BadImage("unreadable", tiff.refused(data))
    return error or OSError("image file is truncated")


def _shown(
    version: Version,
    kind: FileFormat | None,
    decode_options: DecodeOptions,
    limits: tuple[int, MemoryLimits],
    room: contextlib.ExitStack,
) -> DecodedImage:
    """A version of a file, decoded; the room that it takes goes to `room`."""
    max_pixels, memory = limits
    file = room.enter_context(_file(version.data, kind))
    size = file.size
    if isinstance(file, JpegImageFile) and has_many_scans(version.data):
        file.info["progressive"] = 1  # what its decoder holds is the same
    if version.whole and not _is_whole(version.whole, file, limits):
        raise OSError("image file is truncated")
    if decode_options.side and isinstance(file, JpegImageFile):
        file.draft(None, (ENOUGH * decode_options.side,) * 2)
    check_pixels(file.size, max_pixels)
    memory.check(file)
    room.enter_context(memory.picture(file))
    if tiff.is_camera_raw(file):
        raise BadImage("unreadable", CAMERA_RAW.refused)
    in_eight_bits(file)
    file.load()
    factor = 1 if isinstance(file, JpegImageFile) else decode_options.factor(file.size)
    image = to_rgb(file, decode_options, factor)
    turn = _turn(file)
    if image is not file:
        file.close()  # its pixels are no longer needed
    if turn is None:
        return DecodedImage(image, size, file.getexif)
    return DecodedImage(image.transpose(turn), size[::-1] if turn in _SWAPS else size, file.getexif)


def _is_whole(
    whole: Callable[[], bool], file: Image.Image, limits: tuple[int, MemoryLimits]
) -> bool:
    """Whether a version is whole, which is told by decoding it at its full size, if that may be."""
    max_pixels, memory = limits
    try:
        check_pixels(file.size, max_pixels)
        memory.check(file)
    except BadImage:
        return False
    with memory.picture(file):
        return whole()


def _file(data: bytes, kind: FileFormat | None) -> Image.Image:
    """The file, opened by what decodes its kind; one of no known kind, by what may know it."""
    if kind is HEIF:
        from pi_heif import HeifImageFile  # it turns the picture itself, and says so in its EXIF

        heif: Image.Image = HeifImageFile(io.BytesIO(data))
        return heif
    return Image.open(io.BytesIO(data), formats=(kind.decoder,) if kind else UNTOLD)


def _exif_of_heif(data: bytes) -> Image.Exif:
    return _file(heif_with_exif(data), HEIF).getexif()


def read_image_file(path: str | os.PathLike[str], memory: MemoryLimits | None = None) -> bytes:
    """A file's bytes. Raises BadImage, as as_bad_image says."""
    most = (memory or shared_memory_limits(MAX_PIXELS)).encoded
    try:
        return read_bounded(path, most)
    except OSError as error:
        raise as_bad_image(error, most) from error


def as_bad_image(error: OSError, most: int) -> BadImage:
    """The status and reason of a file that could not be read, or has more bytes than `most`."""
    if isinstance(error, TooLarge):
        return BadImage("too_large", f"{error.size:,} bytes, more than the limit of {most:,}")
    if isinstance(error, FileNotFoundError):
        return BadImage("missing", "the file was gone when it was read")
    if error.errno == errno.ENOMEM:
        return BadImage("too_large", "not enough memory to read it")
    return BadImage("unreadable", f"cannot be read: {error.strerror or error}")


_SWAPS = tuple(_UPRIGHT[orientation] for orientation in (5, 6, 7, 8))


def _turn(file: Image.Image) -> Image.Transpose | None:
    """What turns a picture as the EXIF block of its file says, where that can be read."""
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation)
    except SyntaxError:  # Pillow's word for an EXIF block without its header
        orientation = None
    return _UPRIGHT.get(orientation)


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
