"""A photo's metadata columns: when, where and with which camera it was taken, and its size.

    from visionflows.images.exif import COLUMNS, metadata_row
    dict(zip(COLUMNS, metadata_row(image.getexif, image.size)))

Tags have Pillow's names, which are those of Exif 3.0. Damaged or senseless values are empty.
"""

import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any

from PIL import ExifTags, Image

COLUMNS = ("taken_at", "camera", "latitude", "longitude", "width", "height")
MAX_CAMERA = 100  # characters of a camera's name
_MAX_TAG = 65_535  # bytes of a tag that are read: what a JPEG can hold
_Tags = Mapping[int, Any]
_BASE, _GPS = ExifTags.Base, ExifTags.GPS
_TIMES = (  # in this order, with the tag of the offset from UTC
    (_BASE.DateTimeOriginal, _BASE.OffsetTimeOriginal),
    (_BASE.DateTimeDigitized, _BASE.OffsetTimeDigitized),
)


def metadata_row(exif: Callable[[], Image.Exif], size: tuple[int, int]) -> tuple[str, ...]:
    """The COLUMNS of an image as text; `exif` reads its tags, `size` is its upright size."""
    base = _read(exif, {})
    details = _read(lambda: base.get_ifd(ExifTags.IFD.Exif), {})
    gps = _read(lambda: base.get_ifd(ExifTags.IFD.GPSInfo), {})
    taken_at = _read(lambda: _taken_at(details), "")
    camera = _read(lambda: _camera(base), "")
    latitude, longitude = _read(lambda: _position(gps), ("", ""))
    return taken_at, camera, latitude, longitude, *map(str, size)


def camera_and_time(exif: Callable[[], Image.Exif]) -> tuple[str, float]:
    """The camera (make, model, serial number) and the second when it took a photo, by its clock.

    The second counts from 1970. Empty and NaN if the photo does not record both.
    """
    base = _read(exif, {})
    details = _read(lambda: base.get_ifd(ExifTags.IFD.Exif), {})
    try:
        taken = _clock(details, _BASE.DateTimeOriginal)
    except ValueError:
        return "", math.nan
    camera = _read(lambda: _camera(base), "")
    serial = _text(details.get(_BASE.BodySerialNumber, ""))
    seconds = (taken - datetime.datetime(1970, 1, 1)).total_seconds()
    return (f"{camera} {serial}", seconds) if camera else ("", math.nan)


def _read(read: Callable[[], Any], default: Any) -> Any:
    try:
        return read()
    except Exception:  # noqa: BLE001 (damaged tags raise anything; the value is then unknown)
        return default


def _taken_at(details: _Tags) -> str:
    """ISO 8601, with the offset from UTC if the camera recorded it."""
    for time_tag, offset_tag in _TIMES:
        try:
            taken = _clock(details, time_tag)
        except ValueError:  # none, or of a camera without a clock: 0000:00:00, or spaces
            continue
        try:
            zone = datetime.datetime.strptime(_text(details.get(offset_tag, "")), "%z").tzinfo
        except ValueError:
            zone = None
        return taken.replace(tzinfo=zone).isoformat()
    return ""


def _clock(details: _Tags, tag: int) -> datetime.datetime:
    """The time in a tag. Raises ValueError if it has none."""
    return datetime.datetime.strptime(_text(details.get(tag, "")), "%Y:%m:%d %H:%M:%S")


def _camera(base: _Tags) -> str:
    """Make and model; only the model if it begins with the make."""
    make, model = _text(base.get(_BASE.Make, "")), _text(base.get(_BASE.Model, ""))
    camera = model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()
    return camera[:MAX_CAMERA]


def _position(gps: _Tags) -> tuple[str, str]:
    """Degrees north and east, to a tenth of a metre. Raises if one of them is missing."""
    north = _degrees(gps[_GPS.GPSLatitude], gps[_GPS.GPSLatitudeRef], "NS", 90)
    east = _degrees(gps[_GPS.GPSLongitude], gps[_GPS.GPSLongitudeRef], "EW", 180)
    return f"{round(north, 6) + 0.0:.6f}", f"{round(east, 6) + 0.0:.6f}"  # + 0.0: no "-0.000000"


def _degrees(parts: tuple[Any, ...], side: Any, sides: str, limit: int) -> float:
    """Degrees from degrees, minutes and seconds, negative on the second of two sides."""
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60 + seconds / 3600
    if not (math.isfinite(value) and 0 <= value <= limit):
        raise ValueError(f"{value} degrees")
    return value if sides.index(_text(side).upper()[:1] or "?") == 0 else -value


def _text(value: Any) -> str:
    """A tag's text on one line: UTF-8 where valid, as phones write it, else Latin-1."""
    if isinstance(value, str):  # Pillow decodes all of them as Latin-1
        value = value[:_MAX_TAG].encode("latin-1", "replace")
    if not isinstance(value, bytes):
        return ""
    content = value[:_MAX_TAG].partition(b"\0")[0]
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
