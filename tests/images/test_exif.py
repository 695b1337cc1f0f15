"""EXIF time, camera and position in every format; damaged metadata fails no image."""

import random
import struct
import tracemalloc
import zlib

import pillow_heif
import pytest
from conftest import encoded, picture
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from visionflows.images.decode_options import DecodeOptions
from visionflows.images.exif import COLUMNS, _position
from visionflows.images.image_status import BadImage
from visionflows.images.memory_limits import MemoryLimits
from visionflows.images.open import open_decoded

pillow_heif.register_heif_opener()

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
SHOT = {
    Base.DateTimeOriginal: "2026:01:31 18:05:09",
    Base.OffsetTimeOriginal: "+01:00",
}
LOCATION = {1: "S", 2: (33.0, 51.0, 24.9), 3: "E", 4: (151.0, 12.0, 40.0)}
PHOTO = {
    "taken_at": "2026-01-31T18:05:09+01:00",
    "camera": "Canon EOS R5",
    "latitude": "-33.856917",
    "longitude": "151.211111",
    "width": "40",
    "height": "48",
}


def exif_of(base: dict, shot: dict | None = None, storage: dict | None = None) -> Image.Exif:
    exif = Image.Exif()
    exif.update(base)
    exif.get_ifd(IFD.Exif).update(SHOT if shot is None else shot)
    exif.get_ifd(IFD.GPSInfo).update(LOCATION if storage is None else storage)
    return exif


CANON = {Base.Make: "Canon\0", Base.Model: "Canon EOS R5", Base.Orientation: 6}


def columns(data: bytes, **options) -> dict[str, str]:
    with open_decoded(data, MemoryLimits(), **options) as found:
        return dict(zip(COLUMNS, found.photo().row(found.size), strict=True))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_time_camera_and_position_are_read(format):
    assert columns(encoded(picture(), format, exif=exif_of(CANON).tobytes())) == PHOTO


def test_exif_of_a_compressed_tiff_is_read():
    """Pillow writes none with EXIF, so the strip of a plain TIFF is compressed in place."""
    data = bytearray(encoded(picture(), "TIFF", exif=exif_of(CANON).tobytes()))
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    entries = [at + 2 + 12 * number for number in range(count)]
    locations = {struct.unpack_from("<H", data, entry)[0]: entry + 8 for entry in entries}
    strip, size = (struct.unpack_from("<I", data, locations[tag])[0] for tag in (273, 279))
    packed = zlib.compress(data[strip : strip + size])
    data[strip : strip + len(packed)] = packed
    struct.pack_into("<I", data, locations[279], len(packed))
    struct.pack_into("<H", data, locations[259], 8)
    assert columns(bytes(data)) == PHOTO


def test_width_and_height_are_those_of_the_upright_photo():
    data = encoded(picture(size=(640, 480)), exif=exif_of(CANON).tobytes())
    scaled = columns(data, decode_options=DecodeOptions(side=32))
    assert (scaled["width"], scaled["height"]) == ("480", "640")


def test_unknown_values_are_empty():
    nothing = dict.fromkeys(COLUMNS, "") | {"width": "48", "height": "40"}
    assert columns(encoded(picture())) == columns(encoded(picture(), "BMP")) == nothing


@pytest.mark.parametrize(
    "shot, taken_at",
    [
        ({Base.DateTimeOriginal: "0000:00:00 00:00:00"}, ""),
        ({Base.DateTimeOriginal: "    :  :     :  :  "}, ""),
        ({Base.DateTimeOriginal: "2026:02:30 00:00:00"}, ""),
        ({Base.DateTimeOriginal: "2026:02:03 04:05:06\0"}, "2026-02-03T04:05:06"),
        ({Base.DateTimeOriginal: "no", Base.DateTimeDigitized: "2026:02:03 04:05:06"}, None),
        ({**SHOT, Base.OffsetTimeOriginal: "   :  "}, "2026-01-31T18:05:09"),
    ],
)
def test_an_invalid_time_is_empty(shot, taken_at):
    data = encoded(picture(), exif=exif_of(CANON, shot).tobytes())
    assert columns(data)["taken_at"] == ("2026-02-03T04:05:06" if taken_at is None else taken_at)


@pytest.mark.parametrize(
    "written, taken_at",
    [
        ("2012-12-22 10:37:28", "2012-12-22T10:37:28"),
        ("2012/12/22 10:37:28", "2012-12-22T10:37:28"),
        ("2018-01-20T11:46:00", "2018-01-20T11:46:00"),
        ("2018-01-20T11:46:00Z", "2018-01-20T11:46:00+00:00"),
        ("2018:01:20 11:46:00+0200", "2018-01-20T11:46:00+02:00"),
        ("2018:01:20 11:46:00.123-05:30", "2018-01-20T11:46:00-05:30"),
        ("2016:05:17 24:05:00", "2016-05-18T00:05:00"),
        ("2016:12:31 23:59:60", "2017-01-01T00:00:00"),
        ("2003: 1: 2  3: 4: 5", "2003-01-02T03:04:05"),
        ("2016:05:17 10:05", "2016-05-17T10:05:00"),
        ("2016:05:17", "2016-05-17"),
        ("1904:01:01 00:00:00", ""),
        ("2016:05:17 25:00:00", ""),
        ("9999:12:31 24:00:00", ""),
        ("2016:05:17 10:05:59 or so", ""),
        ("1" * 30, ""),
    ],
)
def test_times_are_read_in_every_form(written, taken_at):
    data = encoded(picture(), exif=exif_of(CANON, {Base.DateTimeOriginal: written}).tobytes())
    assert columns(data)["taken_at"] == taken_at
    with open_decoded(data, MemoryLimits()) as found:
        assert (found.photo().body == "") == (len(taken_at) < 19)


def test_the_time_of_the_photo_may_be_in_the_first_directory():
    exif = exif_of({**CANON, Base.DateTimeOriginal: "2011:01:02 03:04:05"}, {})
    assert columns(encoded(picture(), exif=exif.tobytes()))["taken_at"] == "2011-01-02T03:04:05"
    exif = exif_of({**CANON, Base.DateTime: "2011:01:02 03:04:05"}, {})  # of the last change
    assert columns(encoded(picture(), exif=exif.tobytes()))["taken_at"] == ""


NOT_A_NUMBER = IFDRational(0, 0)


@pytest.mark.parametrize(
    "storage, position",
    [
        ({2: (33.0, 30.0, NOT_A_NUMBER)}, ("-33.500000", "151.211111")),
        ({2: (33.5, NOT_A_NUMBER, NOT_A_NUMBER)}, ("-33.500000", "151.211111")),
        ({2: (33.0, 30.25)}, ("-33.504167", "151.211111")),
        ({4: (151.5,)}, ("-33.856917", "151.500000")),
        ({4: 151.5}, ("-33.856917", "151.500000")),
        ({1: "South", 3: "e"}, ("-33.856917", "151.211111")),
        ({1: "N"}, ("33.856917", "151.211111")),
        ({2: (0.0, 0.0, 0.0)}, ("0.000000", "151.211111")),
        ({2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)}, ("", "")),
        ({2: (33.0, 30.0, 3600.0)}, ("-34.500000", "151.211111")),
    ],
)
def test_positions_are_read_in_every_form(storage, position):
    exif = exif_of(CANON, storage=LOCATION | storage)
    found = columns(encoded(picture(), exif=exif.tobytes()))
    assert (found["latitude"], found["longitude"]) == position


def test_signed_degrees_and_degrees_as_text():
    south_west = {1: "S", 2: (-33.0, 30.0, 0.0), 3: "E", 4: (-70.0, 15.0, 0.0)}
    assert _position(south_west) == ("-33.500000", "-70.250000")
    as_text = {1: "N", 2: "48/1,30/1,15/1", 3: "E", 4: "11/1,15/1,12/1"}
    assert _position(as_text) == ("48.504167", "11.253333")


@pytest.mark.parametrize(
    "storage",
    [
        {},
        {**LOCATION, 2: (91.0, 0.0, 0.0)},
        {**LOCATION, 4: (IFDRational(0, 0), 0.0, 0.0)},
        {**LOCATION, 3: ""},
        {**LOCATION, 1: "X"},
        {key: LOCATION[key] for key in (1, 2)},
        {**LOCATION, 4: (1.0, 2.0, 3.0, 4.0)},
    ],
)
def test_an_invalid_position_is_empty(storage):
    data = encoded(picture(), exif=exif_of(CANON, storage=storage).tobytes())
    assert columns(data) == PHOTO | {"latitude": "", "longitude": ""}


def test_a_zero_has_no_minus():
    storage = {1: "S", 2: (0.0, 0.0, 0.0), 3: "W", 4: (0.0, 0.0, 0.001)}
    found = columns(encoded(picture(), exif=exif_of(CANON, storage=storage).tobytes()))
    assert (found["latitude"], found["longitude"]) == ("0.000000", "0.000000")


@pytest.mark.parametrize(
    "base, camera",
    [
        ({Base.Make: "NIKON CORPORATION", Base.Model: "NIKON Z 6"}, "NIKON CORPORATION NIKON Z 6"),
        ({Base.Make: "Apple", Base.Model: "iPhone 15"}, "Apple iPhone 15"),
        ({Base.Model: "two\nlines"}, "two lines"),
        ({Base.Make: "x" * 5000}, "x" * 100),
        ({Base.Make: "小米".encode(), Base.Model: "M2102"}, "小米 M2102"),
        ({Base.Make: "Müller".encode("latin-1"), Base.Model: "M1"}, "Müller M1"),
    ],
)
def test_a_camera_is_one_line(base, camera):
    assert columns(encoded(picture(), exif=exif_of(base).tobytes()))["camera"] == camera


def test_a_camera_name_of_many_megabytes_is_not_loaded():
    exif = exif_of({Base.Make: "x" * 5_000_000}).tobytes()
    with open_decoded(encoded(picture(), "PNG", exif=exif), MemoryLimits()) as found:
        found.photo()
        tracemalloc.start()
        camera = found.photo().camera
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert camera == "x" * 100
    assert peak < 20_000_000


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF", "TIFF"])
def test_damaged_metadata_raises_no_error_and_keeps_jpeg_and_png_readable(format):
    exif = exif_of(CANON).tobytes()
    rng, opened = random.Random(format), 0
    for _ in range(150):
        damaged = bytearray(exif)
        for _ in range(rng.randint(1, 20)):
            damaged[rng.randrange(6, len(damaged))] = rng.randrange(256)
        try:
            data = encoded(picture(), format, exif=bytes(damaged))
        except Exception:  # noqa: BLE001 (what writes it reads it first)
            continue
        try:
            found = columns(data)
        except BadImage as bad:
            if format in ("JPEG", "PNG"):
                pytest.fail(f"{bad}")
            continue
        opened += 1
        assert all(text.isprintable() for text in found.values())
        assert {found["width"], found["height"]} == {"48", "40"}
    assert opened > 50
