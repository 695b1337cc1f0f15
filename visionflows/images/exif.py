"""What a photo says of itself: when, with what and where it was taken, and how large it is.

    from visionflows.images.exif import COLUMNS, told
    dict(zip(COLUMNS, told(image.getexif, image.size)))     # {"taken_at": "2026-01-31T18:05:09", …

Tags by Pillow's names, which are those of Exif 3.0. It costs no picture: what is damaged, senseless
or missing is empty.
"""

import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any

from PIL import ExifTags, Image

COLUMNS = ("taken_at", "camera", "latitude", "longitude", "width", "height")
LONGEST = 100  # characters of a camera's name
_LONGEST = 65_535  # bytes of a tag that are looked at: as many as a JPEG can hold
_Tags = Mapping[int, Any]
_BASE, _GPS = ExifTags.Base, ExifTags.GPS
# Times as they are told, with the offset from UTC that may stand beside each.
_TIMES = (
    (_BASE.DateTimeOriginal, _BASE.OffsetTimeOriginal),
    (_BASE.DateTimeDigitized, _BASE.OffsetTimeDigitized),
)


def metadata_row(exif: Callable[[], Image.Exif], size: tuple[int, int]) -> tuple[str, ...]:
    """The COLUMNS of a picture, as text; `exif` reads its tags, `size` is its own, upright."""
    base = _read(exif, {})
    shot = _read(lambda: base.get_ifd(ExifTags.IFD.Exif), {})
    storage = _read(lambda: base.get_ifd(ExifTags.IFD.GPSInfo), {})
    taken_at = _read(lambda: _taken_at(shot), "")
    camera = _read(lambda: _camera(base), "")
    latitude, longitude = _read(lambda: _position(storage), ("", ""))
    return taken_at, camera, latitude, longitude, *map(str, size)


def _read(what: Callable[[], Any], default: Any) -> Any:
    try:
        return what()
    except Exception:  # noqa: BLE001 (whatever damage makes of it, it is not known then)
        return default


def _taken_at(shot: _Tags) -> str:
    """ISO 8601, with the offset from UTC where the camera tells it."""
    for time, offset in _TIMES:
        said = _text(shot.get(time, ""))
        try:
            taken = datetime.datetime.strptime(said, "%Y:%m:%d %H:%M:%S")
        except ValueError:  # none, or as cameras without a clock write it: 0000:00:00, or spaces
            continue
        try:
            zone = datetime.datetime.strptime(_text(shot.get(offset, "")), "%z").tzinfo
        except ValueError:
            zone = None
        return taken.replace(tzinfo=zone).isoformat()
    return ""


def _camera(base: _Tags) -> str:
    """Make and model; the model alone where it begins with its make."""
    make, model = _text(base.get(_BASE.Make, "")), _text(base.get(_BASE.Model, ""))
    whole = model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()
    return whole[:LONGEST]


def _position(storage: _Tags) -> tuple[str, str]:
    """Degrees north and east, to a tenth of a metre; none of both without the other."""
    north = _degrees(storage[_GPS.GPSLatitude], storage[_GPS.GPSLatitudeRef], "NS", 90)
    east = _degrees(storage[_GPS.GPSLongitude], storage[_GPS.GPSLongitudeRef], "EW", 180)
    return f"{round(north, 6) + 0.0:.6f}", f"{round(east, 6) + 0.0:.6f}"  # no minus before a zero


def _degrees(parts: tuple[Any, ...], side: Any, sides: str, most: int) -> float:
    """Degrees of three parts, minus on the second of two sides. Raises ValueError, and others."""
    degrees, minutes, seconds = (float(part) for part in parts)
    found = degrees + minutes / 60 + seconds / 3600
    if not (math.isfinite(found) and 0 <= found <= most):
        raise ValueError(f"{found} degrees")
    return found if sides.index(_text(side).upper()[:1] or "?") == 0 else -found


def _text(value: Any) -> str:
    """What a tag says, on one line: UTF-8 where it is, as phones write it, else Latin-1."""
    if isinstance(value, str):  # Pillow's, which takes all for Latin-1
        value = value[:_LONGEST].encode("latin-1", "replace")
    if not isinstance(value, bytes):
        return ""
    said = value[:_LONGEST].partition(b"\0")[0]
    try:
        text = said.decode()
    except UnicodeDecodeError:
        text = said.decode("latin-1")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
