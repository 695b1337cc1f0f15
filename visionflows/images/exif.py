"""A photo's metadata columns: when, where and with which camera it was taken, and its size.

    from visionflows.images.exif import COLUMNS, read_photo
    dict(zip(COLUMNS, read_photo(image.getexif).row(image.size)))

Tags have Pillow's names, which are those of Exif 3.0. Damaged or senseless values are empty.
"""

import datetime
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from PIL import ExifTags, Image

COLUMNS = ("taken_at", "camera", "latitude", "longitude", "width", "height")
MAX_CAMERA = 100  # characters of a camera's name
_MAX_TAG = 65_535  # bytes of a tag that are read: what a JPEG can hold
_Tags = Mapping[int, Any]
_BASE, _GPS = ExifTags.Base, ExifTags.GPS
_QUICKTIME_ZERO = datetime.datetime(1904, 1, 1)  # of a clock that was never set
_TIME = re.compile(  # with any separators, spaces for zeros, and what programs write behind it
    r"(\d{4})[:/.-] ?(\d\d?)[:/.-] ?(\d\d?)"
    r"(?:[ T]?(\d\d?): ?(\d\d?)(?:: ?(\d\d?)(?:[.,]\d*)?)?)? ?(Z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_TIMES = (  # in this order, with the tag of the offset from UTC
    (_BASE.DateTimeOriginal, _BASE.OffsetTimeOriginal),
    (_BASE.DateTimeDigitized, _BASE.OffsetTimeDigitized),
)


class Photo(NamedTuple):
    """What the tags of a photo say, as text; unknown values are empty.

    `body` is its camera with the serial number, and `second` when it took the photo: by its own
    clock, from 1970. Empty and NaN if the photo does not record both.
    """

    taken_at: str
    camera: str
    latitude: str
    longitude: str
    body: str
    second: float

    def row(self, size: tuple[int, int]) -> tuple[str, ...]:
        """The COLUMNS; `size` is the upright size of the image."""
        return *self[:4], *map(str, size)


def read_photo(exif: Callable[[], Image.Exif]) -> Photo:
    """What the tags of a photo say; `exif` reads them."""
    base = _read(exif, {})
    details = _read(lambda: base.get_ifd(ExifTags.IFD.Exif), {})
    gps = _read(lambda: base.get_ifd(ExifTags.IFD.GPSInfo), {})
    taken_at = _read(lambda: _taken_at(base, details), "")
    camera = _read(lambda: _camera(base), "")
    latitude, longitude = _read(lambda: _position(gps), ("", ""))
    body, second = _read(lambda: _body_and_second(camera, details), ("", math.nan))
    return Photo(taken_at, camera, latitude, longitude, body, second)


def _body_and_second(camera: str, details: _Tags) -> tuple[str, float]:
    """The fields of a Photo. Raises if the time of the photo is missing."""
    taken, _, is_day = _parse_time(_text(details.get(_BASE.DateTimeOriginal)))
    serial = _text(details.get(_BASE.BodySerialNumber, ""))
    second = (taken - datetime.datetime(1970, 1, 1)).total_seconds()
    return (f"{camera} {serial}", second) if camera and not is_day else ("", math.nan)


def _read(read: Callable[[], Any], default: Any) -> Any:
    try:
        return read()
    except Exception:  # noqa: BLE001 (damaged tags raise anything; the value is then unknown)
        return default


def _taken_at(base: _Tags, details: _Tags) -> str:
    """ISO 8601, with the offset from UTC if the camera recorded it; a day alone without time."""
    for time_tag, offset_tag in _TIMES:
        try:
            taken, zone, is_day = _parse_time(_text(details.get(time_tag) or base.get(time_tag)))
        except (ValueError, OverflowError):  # none, or of a camera without a clock
            continue
        if is_day:
            return taken.date().isoformat()
        zone = zone or _parse_zone(_text(details.get(offset_tag, "")))
        return taken.replace(tzinfo=zone).isoformat()
    return ""


def _parse_time(text: str) -> tuple[datetime.datetime, datetime.tzinfo | None, bool]:
    """The time in a tag, its offset if it is there too, and whether it is a day without a time.

    An hour of 24 is the next day, and a second of 60 the next minute. Raises ValueError or
    OverflowError if the text is no time.
    """
    match = _TIME.fullmatch(text)
    if not match:
        raise ValueError(text)
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    if hour > 24 or minute > 59 or second > 60:
        raise ValueError(text)
    clock = datetime.timedelta(hours=hour, minutes=minute, seconds=second)
    taken = datetime.datetime(year, month, day) + clock
    if taken == _QUICKTIME_ZERO:
        raise ValueError(text)
    return taken, _parse_zone(match[7] or ""), match[4] is None


def _parse_zone(text: str) -> datetime.tzinfo | None:
    try:
        return datetime.datetime.strptime(text, "%z").tzinfo
    except ValueError:
        return None


def _camera(base: _Tags) -> str:
    """Make and model; only the model if it begins with the make."""
    make, model = _text(base.get(_BASE.Make, "")), _text(base.get(_BASE.Model, ""))
    camera = model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()
    return camera[:MAX_CAMERA]


def _position(gps: _Tags) -> tuple[str, str]:
    """Degrees north and east, to a tenth of a metre. Raises if one of them is missing.

    Both are zero where a camera had no reception.
    """
    north = _degrees(gps[_GPS.GPSLatitude], gps[_GPS.GPSLatitudeRef], "NS", 90)
    east = _degrees(gps[_GPS.GPSLongitude], gps[_GPS.GPSLongitudeRef], "EW", 180)
    if north == east == 0:
        raise ValueError("0 degrees")
    return f"{round(north, 6) + 0.0:.6f}", f"{round(east, 6) + 0.0:.6f}"  # + 0.0: no "-0.000000"


def _degrees(parts: Any, side: Any, sides: str, limit: int) -> float:
    """Degrees from degrees, minutes and seconds, negative on the second of two sides.

    The last parts may be missing or 0/0, and the first may be negative or have all decimals.
    """
    if isinstance(parts, str | bytes):
        fractions = (part.partition("/") for part in _text(parts).split(","))
        parts = [float(above) / float(below or 1) for above, _, below in fractions]
    numbers = [float(part) for part in (parts if isinstance(parts, Sequence) else [parts])]
    degrees, minutes, seconds = numbers + [math.nan] * (3 - len(numbers))
    rest = sum(abs(part) / unit for part, unit in ((minutes, 60), (seconds, 3600)) if part == part)
    value = abs(degrees) + rest
    if not 0 <= value <= limit:
        raise ValueError(f"{value} degrees")
    is_second = sides.index(_text(side).upper()[:1] or "?") == 1
    return -value if is_second or degrees < 0 else value


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
