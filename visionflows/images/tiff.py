"""What the tags of a TIFF say of its picture: the range of its values, and why there is none.

from visionflows.images.tiff import refused, said
said(image)                                          # Said(bits=12, kind=1, inverted=False)
"""

import dataclasses
import io
import math
from typing import Any

from PIL import Image, TiffImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from visionflows.images.formats import CAMERA_RAW
from visionflows.images.pillow import unpacks

# Tags, by their numbers in TIFF 6.0 and the DNG specification.
_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 254, 258, 259, 262, 277
_SUB_IFDS, _FORMAT, _LEAST, _MOST, _DNG = 330, 339, 340, 341, 50706
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # SampleFormat
_KINDS = {UNSIGNED: "unsigned", SIGNED: "signed", FLOAT: "float"}


@dataclasses.dataclass(frozen=True)
class Said:
    """How the values of a grey TIFF are meant: bits, SampleFormat, white as 0, its own range."""

    bits: int
    kind: int
    inverted: bool
    range: tuple[float, float] | None = None  # of SMinSampleValue and SMaxSampleValue


def said(image: Image.Image) -> Said | None:
    """What an opened picture says of its values; None where it is no TIFF."""
    if not isinstance(image, TiffImageFile):
        return None
    tags = image.tag_v2
    least, most = _first(tags, _LEAST, None), _first(tags, _MOST, None)
    kind, bits = _first(tags, _FORMAT, UNSIGNED), _first(tags, _BITS, 1)
    if most is not None and least is None:
        least = 0
    known = most is not None and 0 < float(most) - float(least) < math.inf
    return Said(
        bits=int(bits),
        kind=int(kind),
        inverted=_first(tags, _PHOTOMETRIC, 1) == 0,
        range=(float(least), float(most)) if known else None,
    )


def is_camera_raw(image: Image.Image) -> bool:
    """Whether an opened TIFF only previews what a camera's sensor saw, which lies further in."""
    if not isinstance(image, TiffImageFile):
        return False
    tags = image.tag_v2
    preview = _SUB_IFDS in tags and _first(tags, _SUBFILE, 0) == 1
    return _DNG in tags or preview


def refused(data: bytes) -> str:
    """Why a TIFF that Pillow does not open has no pixels here."""
    tags = _tags(data)
    if _BITS not in tags:
        return "TIFF or camera raw (DNG, NEF, ARW): no picture in it that can be read"
    if _DNG in tags or _SUB_IFDS in tags:
        return CAMERA_RAW.refused
    bits, kind = _first(tags, _BITS, None), _first(tags, _FORMAT, UNSIGNED)
    bands, packed = _first(tags, _SAMPLES, 1), _first(tags, _COMPRESSION, 1)
    samples = f"{bands} band{'s' * (bands != 1)} of {bits}-bit {_KINDS.get(kind, f'kind {kind}')}"
    return f"TIFF: {samples}, compression {packed}: not decoded here; save it as PNG"


def is_packed_otherwise(data: bytes) -> bool:
    """Whether a TIFF is compressed in a way that the libtiff here knows and cannot unpack."""
    return not unpacks(_first(_tags(data), _COMPRESSION, 1))


def _tags(data: bytes) -> Any:
    """The tags of a TIFF's first directory, by number; none where it is damaged."""
    try:
        header = 16 if data[2:4] in (b"+\0", b"\0+") else 8
        tags: Any = TiffImagePlugin.ImageFileDirectory_v2(data[:header])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        return dict(tags)
    except Exception:  # noqa: BLE001 (what can be said of it is that nothing can be read)
        return {}


def _first(tags: Any, tag: int, default: Any) -> Any:
    value = tags.get(tag, default)
    if isinstance(value, tuple):
        return value[0] if value else default
    return value
