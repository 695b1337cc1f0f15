"""The one way an image file becomes pixels, for training and for scoring.

    from visionflows.images.open import open_image
    open_image("photo.jpg")                          # what the network sees, before resizing

Every image: first frame, transparent parts on white, EXIF orientation applied (fastai does not),
8-bit RGB with deep grey values scaled rather than clipped. Damaged pixels are refused, and files
that take more time than images.time_budget allows.
"""

import contextlib
import errno
import functools
import os
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.AvifImagePlugin import AvifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from visionflows.bounded_read import TooLarge, read_bounded
from visionflows.images import formats, jpeg, tiff
from visionflows.images.color_profiles import (
    attach_profile,
    attached_profile,
    color_profile,
    convert_cmyk,
    convert_to_srgb,
)
from visionflows.images.decode_options import ENOUGH, WHOLE, DecodeOptions
from visionflows.images.exif import read_photo
from visionflows.images.image_status import BadImage
from visionflows.images.isolation import DecodedImage, decode_isolated
from visionflows.images.load_pixels import SWAPS_SIDES, load_pixels, upright_transpose
from visionflows.images.memory_limits import MAX_PIXELS, MemoryLimits, shared_memory_limits
from visionflows.images.pillow import no_pixel_limit
from visionflows.images.repair import candidates
from visionflows.images.resize import ResizeMethod, resize_image
from visionflows.images.time_budget import Clock, ClockedFile
from visionflows.images.to_rgb import to_rgb

Source = str | os.PathLike[str] | bytes  # a file, or its bytes
MAX_REASON = 300  # characters of a decoder's error
_RUN_LENGTH_TGA = (9, 10, 11)  # image types


def open_image(
    source: Source, max_pixels: int = MAX_PIXELS, decode_options: DecodeOptions = WHOLE
) -> Image.Image:
    """The image in a file, or in its bytes: upright, mode RGB, 8 bits a channel.

    Raises BadImage with a status and a reason, and no other error, for any bytes.
    """
    image = open_with_profile(source, max_pixels, decode_options)
    convert_to_srgb(image, attached_profile(image))
    return image


def open_with_profile(
    source: Source, max_pixels: int = MAX_PIXELS, decode_options: DecodeOptions = WHOLE
) -> Image.Image:
    """The image of open_image, whose colours resize_image still has to convert."""
    with open_decoded(source, shared_memory_limits(max_pixels), decode_options) as decoded:
        image = decoded.image
        return image.copy() if isinstance(image, ImageFile) else image  # without the file's bytes


def pixels(
    source: Source,
    size: int,
    method: ResizeMethod,
    max_pixels: int = MAX_PIXELS,
    decode_options: DecodeOptions = WHOLE,
) -> np.ndarray:
    """The uint8 array (size, size, 3) of network input. Raises BadImage, as open_image does."""
    with open_decoded(source, shared_memory_limits(max_pixels), decode_options) as decoded:
        return np.asarray(resize_image(decoded.image, size, method))


@contextlib.contextmanager
def open_decoded(
    source: Source, memory: MemoryLimits, decode_options: DecodeOptions = WHOLE
) -> Iterator[DecodedImage]:
    """The image of open_image; its memory is reserved for the block. Raises BadImage."""
    with _bad_image_errors():
        data = source if isinstance(source, bytes) else read_image_file(source, memory.encoded)
        format = _decodable_format(data)
        decode = decode_isolated if format in formats.ISOLATED else decode_here
        with decode(data, memory, decode_options) as decoded:
            yield decoded


@contextlib.contextmanager
def decode_here(
    data: bytes, memory: MemoryLimits, decode_options: DecodeOptions
) -> Iterator[DecodedImage]:
    """The image of open_decoded, decoded in this process."""
    with _bad_image_errors():
        format, clock = _decodable_format(data), Clock(len(data))
        first_error: Exception | None = None
        for candidate in candidates(data, format.decoder if format else ""):
            with no_pixel_limit(), contextlib.ExitStack() as reserved:
                try:
                    file = reserved.enter_context(_open_file(candidate, format, clock))
                    image = _decode(file, candidate, decode_options, memory, reserved)
                except (BadImage, MemoryError):
                    raise
                except Exception as error:  # noqa: BLE001 (raised if no other candidate is left)
                    first_error = first_error or error
                    continue
                yield image
                return
        raise _refusal(data, format, first_error)


@contextlib.contextmanager
def opened_header(data: bytes) -> Iterator[ImageFile]:
    """The file with what is read before its pixels, in this process. Raises BadImage."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_bad_image_errors())
        stack.enter_context(no_pixel_limit())
        yield stack.enter_context(_open_file(data, _decodable_format(data), Clock(len(data))))


def _decodable_format(data: bytes) -> formats.FileFormat | None:
    """The format of a file, None if it has no signature. Raises BadImage if it is not decoded."""
    if not data:
        raise BadImage("unreadable", "empty file (0 bytes)")
    format = formats.detect_format(data[: formats.HEAD])
    if format and not format.decoder:
        raise BadImage("unreadable", format.refusal)
    return format


def _refusal(data: bytes, format: formats.FileFormat | None, error: Exception | None) -> Exception:
    """The error of a file of which no candidate could be decoded, in words that its owner knows."""
    name, is_unidentified = "", isinstance(error, UnidentifiedImageError)
    if format is formats.TIFF and str(error).startswith("decoder error"):
        return BadImage("unreadable", tiff.decoder_refusal(data))
    if "bitfields" in str(error):  # Pillow's word for them
        name = "BMP with unusual masks of its channels"
    elif format is None and not is_unidentified and data[2] in _RUN_LENGTH_TGA:
        name = "TGA with runs across lines, or damaged"  # Pillow took it for one
    if name:
        return BadImage("unreadable", f"{name}: not decoded here; save it as PNG")
    if format and is_unidentified:
        header = f"{format.name}: its header cannot be read"
        return BadImage("unreadable", tiff.refusal(data) if format is formats.TIFF else header)
    return error or OSError("image file is truncated")


def _decode(
    file: ImageFile,
    data: bytes,
    decode_options: DecodeOptions,
    memory: MemoryLimits,
    reserved: contextlib.ExitStack,
) -> DecodedImage:
    """The image in an opened file; the memory that it takes is held by `reserved`."""
    file.info.pop("xmp", None)  # in which Pillow looks for the orientation of a TIFF
    size = file.size
    if isinstance(file, JpegImageFile):
        if jpeg.read_header(data).has_many_scans:
            file.info["progressive"] = 1  # its decoder holds as much
        if decode_options.side:
            file.draft(None, (ENOUGH * decode_options.side,) * 2)
    reserved.enter_context(memory.reserve_image(file))
    if tiff.is_camera_raw(file):
        raise BadImage("unreadable", formats.CAMERA_RAW.refusal)
    profile = color_profile(file, data) if decode_options.color_profiles == "convert" else None
    if isinstance(file, JpegImageFile):
        jpeg.load_strictly(file, data)
    elif isinstance(file, TiffImageFile):
        tiff.check_jpeg(file, data)
    loaded = load_pixels(file, data)
    factor = 1 if isinstance(file, JpegImageFile) else decode_options.factor(file.size)
    image = to_rgb(loaded, factor, convert_cmyk(profile))
    attach_profile(image, profile)
    transpose = upright_transpose(file)
    if image is not file:
        file.close()  # its pixels are no longer needed
    upright = image if transpose is None else image.transpose(transpose)
    upright_size = size[::-1] if transpose in SWAPS_SIDES else size
    return DecodedImage(upright, upright_size, functools.partial(read_photo, file.getexif))


def _open_file(data: bytes, format: formats.FileFormat | None, clock: Clock) -> ImageFile:
    """The file, opened by the decoder of its format, or by those of formats without signature."""
    if format is formats.TIFF:
        data = tiff.without_bigtiff(data)
    source = ClockedFile(data, clock)
    if format is formats.AVIF:  # Pillow asks only the major brand
        file: ImageFile = AvifImageFile(source)
    elif format is formats.HEIF:
        from pi_heif import HeifImageFile  # applies the orientation, and resets it in the EXIF

        file = HeifImageFile(source)
    else:
        decoders = (format.decoder,) if format else formats.WITHOUT_SIGNATURE
        file = Image.open(source, formats=decoders)
    clock.add_pixels(file.width * file.height)
    return file


def read_image_file(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """A file's bytes. Raises BadImage, as as_bad_image describes."""
    try:
        return read_bounded(path, max_bytes)
    except OSError as error:
        raise as_bad_image(error, max_bytes) from error


def as_bad_image(error: OSError, max_bytes: int) -> BadImage:
    """The status and reason of a file that cannot be read or has more than `max_bytes`."""
    if isinstance(error, TooLarge):
        return BadImage("too_large", f"{error.size:,} bytes, more than the limit of {max_bytes:,}")
    if isinstance(error, FileNotFoundError):
        return BadImage("missing", "the file was gone when it was read")
    if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return BadImage("missing", f"its link leads nowhere ({error.strerror})")
    if error.errno == errno.ENOMEM:
        return BadImage("too_large", "not enough memory to read it")
    return BadImage("unreadable", f"cannot be read: {error.strerror or error}")


@contextlib.contextmanager
def _bad_image_errors() -> Iterator[None]:
    """Translate every error of a decoder into the status and reason of a row."""
    try:
        yield
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage("unreadable", "not an image in a format that can be read") from error
    except MemoryError as error:
        raise BadImage("too_large", "not enough memory to decode it") from error
    except Exception as error:  # decoders raise errors of any type
        message = "".join(letter if letter.isprintable() else " " for letter in str(error))
        reason = f"{type(error).__name__}: {' '.join(message[:MAX_REASON].split())}"
        raise BadImage("unreadable", reason) from error
