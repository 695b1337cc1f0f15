"""What the tags of a TIFF say: the range of its values, and why it cannot be decoded."""

import dataclasses
import io
import math
from typing import Any

from PIL import Image, TiffImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from visionflows.images.formats import CAMERA_RAW

# Tags, by their numbers in TIFF 6.0 and the DNG specification.
_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 254, 258, 259, 262, 277
_SUB_IFDS, _SAMPLE_FORMAT, _SMALLEST, _LARGEST, _DNG = 330, 339, 340, 341, 50706
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # SampleFormat
_FORMAT_NAMES = {UNSIGNED: "unsigned", SIGNED: "signed", FLOAT: "float"}


@dataclasses.dataclass(frozen=True)
class GreyTags:
    """How the values of a grey TIFF are meant."""

    bits: int
    sample_format: int
    inverted: bool  # white is 0
    range: tuple[float, float] | None = None  # SMinSampleValue and SMaxSampleValue


def grey_tags(image: Image.Image) -> GreyTags | None:
    """The tags of an opened image; None if it is no TIFF."""
    if not isinstance(image, TiffImageFile):
        return None
    tags = image.tag_v2
    smallest, largest = _first(tags, _SMALLEST, None), _first(tags, _LARGEST, None)
    if largest is not None and smallest is None:
        smallest = 0
    known = largest is not None and 0 < float(largest) - float(smallest) < math.inf
    return GreyTags(
        bits=int(_first(tags, _BITS, 1)),
        sample_format=int(_first(tags, _SAMPLE_FORMAT, UNSIGNED)),
        inverted=_first(tags, _PHOTOMETRIC, 1) == 0,
        range=(float(smallest), float(largest)) if known else None,
    )


def is_camera_raw(image: Image.Image) -> bool:
    """Whether an opened TIFF is only the preview of a camera raw image stored further in."""
    if not isinstance(image, TiffImageFile):
        return False
    tags = image.tag_v2
    preview = _SUB_IFDS in tags and _first(tags, _SUBFILE, 0) == 1
    return _DNG in tags or preview


def refusal(data: bytes) -> str:
    """Why a TIFF that Pillow does not open cannot be decoded here."""
    tags = _tags(data)
    if _BITS not in tags:
        return "TIFF or camera raw (DNG, NEF, ARW): no image in it that can be read"
    if _DNG in tags or _SUB_IFDS in tags:
        return CAMERA_RAW.refusal
    bits, format = _first(tags, _BITS, None), _first(tags, _SAMPLE_FORMAT, UNSIGNED)
    bands, compression = _first(tags, _SAMPLES, 1), _first(tags, _COMPRESSION, 1)
    name = _FORMAT_NAMES.get(format, f"kind {format}")
    samples = f"{bands} band{'s' * (bands != 1)} of {bits}-bit {name}"
    return f"TIFF: {samples}, compression {compression}: not decoded here; save it as PNG"


def _tags(data: bytes) -> Any:
    """The tags of a TIFF's first directory, by number; none if it is damaged."""
    try:
        header = 16 if data[2:4] in (b"+\0", b"\0+") else 8
        tags: Any = TiffImagePlugin.ImageFileDirectory_v2(data[:header])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        return dict(tags)
    except Exception:  # noqa: BLE001 (damaged tags raise anything; then no tag is known)
        return {}


def _first(tags: Any, tag: int, default: Any) -> Any:
    value = tags.get(tag, default)
    if isinstance(value, tuple):
        return value[0] if value else default
    return value
