"""Opening images: frames, EXIF orientation, damage, limits."""

import random
import zlib

import numpy as np
import pytest
from conftest import encoded, picture
from image_files import png, refused
from PIL import Image
from unprivileged import reachable_folder, unprivileged

from visionflows.images.image_status import BadImage
from visionflows.images.open import open_image, pixels, read_image_file

# The filter of images.open is out of force inside pytest, which sets its own.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_shows_its_first_frame(format):
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    data = encoded(red, format, save_all=True, append_images=[blue], lossless=True)
    assert open_image(data).getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("format", FORMATS)
def test_one_pixel_is_an_image(format):
    data = encoded(Image.new("RGB", (1, 1), (200, 200, 200)), format)
    assert open_image(data).size == (1, 1)
    assert pixels(data, 32, "crop", 1).shape == (32, 32, 3)


# EXIF orientation

# The EXIF standard's own table: which side of the picture the file's first row and first column
# hold. For 5 to 8 the rows of the file are the columns of the picture.
FIRST_ROW_AND_COLUMN = {
    **{1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left")},
    **{5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom")},
}


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels a camera writes, for a picture to be shown as `upright`."""
    first_row, first_column = FIRST_ROW_AND_COLUMN[orientation]
    if "bottom" in (first_row, first_column):
        upright = upright[::-1]
    if "right" in (first_row, first_column):
        upright = upright[:, ::-1]
    return upright.swapaxes(0, 1) if orientation > 4 else upright


@pytest.mark.parametrize(
    "format, mode",
    [("PNG", "RGB"), ("PNG", "I;16"), ("TIFF", "RGB"), ("TIFF", "I;16"), ("WEBP", "RGB")],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_becomes_upright(orientation, format, mode):
    upright = np.asarray(picture(size=(31, 20)))
    if mode == "I;16":
        upright = upright[..., 0].astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = Image.fromarray(np.ascontiguousarray(stored(upright, orientation)))
    opened = np.asarray(open_image(encoded(turned, format, exif=exif, lossless=True)))
    expected = upright if mode == "RGB" else upright[..., None].repeat(3, -1) // 257
    np.testing.assert_array_equal(opened, expected)


EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        *(b"Exif\0\0", b"Exif\0\0garbage", EXIF[:20], EXIF.replace(b"MM", b"M?")),
        *(EXIF.replace(b"\0\x06\0\0", b"\0\x09\0\0"), EXIF.replace(b"\0\x03", b"\0\x02")),
    ],
)
def test_an_image_with_damaged_exif_is_opened(format, exif):
    assert open_image(encoded(picture(), format, exif=exif)).size == picture().size
    assert open_image(encoded(picture(), format, exif=EXIF)).size == picture().size[::-1]


# Unreadable files


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1])
def test_a_truncated_file_is_refused(format, kept):
    data = encoded(picture(size=(64, 64)), format)
    status, _ = refused(data[: int(len(data) * kept)])
    assert status == "unreadable"


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_without_its_last_lines_is_refused(options):
    data = encoded(picture(size=(640, 480)), "JPEG", **options)
    assert refused(data[:-100])[0] == "unreadable"


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.jpg").touch()
    assert refused(tmp_path / "empty.jpg") == ("unreadable", "empty file (0 bytes)")


def test_more_pixels_than_the_limit_are_refused_before_one_is_decoded():
    reason = (
        "20000×20000 pixels, more than the limit of 200,000,000; --max-pixels 400000000 raises it"
    )
    too_large = ("too_large", reason)
    assert refused(png(20_000, 20_000, zlib.compress(bytes(20_000 * 2_501), 1))) == too_large
    assert refused(png(20_000, 20_000, b"no rows at all")) == too_large


def test_the_limit_itself_passes():
    data = encoded(picture(size=(30, 20)), "PNG")
    assert open_image(data, max_pixels=600).size == (30, 20)
    assert refused(data, max_pixels=599)[0] == "too_large"


def test_a_file_without_permission_is_refused():
    def attempt() -> str:
        try:
            open_image(closed)
        except BadImage as bad:
            return f"{bad.status}: {bad.reason}"
        return "opened"

    with reachable_folder() as folder:
        closed = folder / "closed.jpg"
        closed.write_bytes(encoded(picture()))
        closed.chmod(0)
        assert unprivileged(attempt) == "unreadable: cannot be read: Permission denied"


def test_a_deleted_file_is_missing(tmp_path):
    (tmp_path / "link.jpg").symlink_to("vanished.jpg")
    for name in ("vanished.jpg", "link.jpg"):
        assert refused(tmp_path / name) == ("missing", "the file was gone when it was read")


def test_a_folder_is_unreadable(tmp_path):
    assert refused(tmp_path) == ("unreadable", "cannot be read: Is a directory")


def test_bytes_and_file_give_the_same_pixels(tmp_path):
    data = encoded(picture())
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_image_file(tmp_path / "a.jpg", len(data)) == data
    assert open_image(tmp_path / "a.jpg").tobytes() == open_image(data).tobytes()


@pytest.mark.parametrize("format", [*FORMATS, "AVIF", "JPEG2000", "PPM", "TGA", "ICO", "EPS"])
def test_flipped_bytes_give_pixels_or_a_bad_image_and_nothing_else(format):
    original = encoded(
        picture(size=(32, 24)), format, **({"exif": EXIF} if format == "JPEG" else {})
    )
    rng = random.Random(format)
    outcomes, reasons = set(), []
    for _ in range(300):
        data = bytearray(original)
        reach = rng.choice((64, len(data)))  # headers break more than pixels do
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(min(len(data), reach))] = rng.randrange(256)
        try:
            outcomes.add(open_image(bytes(data), max_pixels=1_000_000).mode)
        except BadImage as bad:
            outcomes.add(bad.status)
            reasons.append(bad.reason)
    assert outcomes <= {"RGB", "unreadable", "too_large"}
    assert reasons
    assert all(reason.isprintable() for reason in reasons), "a reason is one line"
