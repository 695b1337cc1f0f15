"""What the tags of a TIFF say: the range of its values, and why it cannot be decoded."""

import dataclasses
import io
import math
import struct
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from visionflows.images import jpeg
from visionflows.images.formats import CAMERA_RAW

# Tags, by their numbers in TIFF 6.0 and the DNG specification.
_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 254, 258, 259, 262, 277
_SUB_IFDS, _SAMPLE_FORMAT, _SMALLEST, _LARGEST, _DNG = 330, 339, 340, 341, 50706
_OLD_JPEG = 6
_NESTED = (_SUB_IFDS, 34_665, 34_853)  # directories: smaller images, EXIF, GPS
_JPEG, _JPEG_TABLES, _PLACES = 7, 347, ((324, 273), (325, 279))  # of tiles, or of strips
_MAX_TAGS = 1000  # of a directory; real ones have a hundred at most
_LONG8 = (16, 17, 18)
_TYPE_BYTES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, *_LONG8), 8),
}
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


def check_jpeg(file: TiffImageFile, data: bytes) -> None:
    """Raise BadImage for damaged JPEG data in a TIFF, of which libtiff only warns."""
    tags = file.tag_v2
    if _first(tags, _COMPRESSION, 1) != _JPEG:
        return
    tables = tags.get(_JPEG_TABLES, b"")[:-2]  # without its end
    offsets, counts = ((tags[a] if a in tags else tags[b]) for a, b in _PLACES)
    for offset, count in zip(offsets, counts, strict=False):
        strip = data[offset : offset + count]
        jpeg.check_strictly(tables + strip[2:] if tables else strip)


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


def decoder_refusal(data: bytes) -> str:
    """Why libtiff does not decode a TIFF, of whose pixels it only says `decoder error`."""
    compression = _first(_tags(data), _COMPRESSION, 1)
    if compression == _OLD_JPEG:
        return "TIFF with old-style JPEG (compression 6): not decoded here; save it as PNG"
    return f"TIFF of compression {compression}: damaged, or not decoded here; save it as PNG"


def without_bigtiff(data: bytes) -> bytes:
    """A big-endian BigTIFF, as ImageJ and Bio-Formats write it, as a classic TIFF; else the data.

    Pillow reads only little-endian ones. The first directory is written anew behind the data,
    without the directories in it (EXIF, smaller images). Raises struct.error or ValueError.
    """
    if not data.startswith(b"MM\0+"):
        return data
    (start,) = struct.unpack_from(">Q", data, 8)
    (count,) = struct.unpack_from(">Q", data, start)
    left, entries = len(data), []
    for at in range(start + 8, start + 8 + 20 * min(count, _MAX_TAGS), 20):
        tag, kind, number, place = struct.unpack_from(">HHQQ", data, at)
        size = _TYPE_BYTES.get(kind, 0) * number
        value = data[place : place + size] if size > 8 else data[at + 12 : at + 12 + size]
        if (left := left - size) < 0 or len(value) < size:
            raise ValueError(f"tag {tag}: beyond the end of the file")
        if kind in _LONG8:
            kind, value = 4, np.frombuffer(value, ">u8").astype(">u4").tobytes()
        if value and tag not in _NESTED:
            entries.append((tag, kind, number, value))
    directory = len(data) + len(data) % 2
    values, table = directory + 2 + 12 * len(entries) + 4, struct.pack(">H", len(entries))
    behind = b""
    for tag, kind, number, value in entries:
        place = (
            value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(">I", values + len(behind))
        )
        behind += b"" if len(value) <= 4 else value + bytes(len(value) % 2)
        table += struct.pack(">HHI", tag, kind, number) + place
    head = b"MM\0*" + struct.pack(">I", directory)
    return b"".join((head, data[8:].ljust(directory - 8, b"\0"), table, bytes(4), behind))


def _tags(data: bytes) -> Any:
    """The tags of a TIFF's first directory, by number; none if it is damaged."""
    try:
        data = without_bigtiff(data)
        header = 16 if data[2:3] == b"+" else 8
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
