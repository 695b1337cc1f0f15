"""One way from file to pixels: every kind of image, every kind of damage, fastai's own resizing."""

import io
import os
import random
import struct
import zlib
from itertools import product

import numpy as np
import pytest
from conftest import encoded, picture
from PIL import Image
from unprivileged import reachable_folder, unprivileged

from visionflows.images.open import open_image, pixels, read_file
from visionflows.images.opening import BEFORE
from visionflows.images.resize import resized
from visionflows.images.status import BadImage

UNKNOWN = "not an image in a format that can be read"
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")


def refused(source, **options) -> tuple[str, str]:
    """The status and reason of a source that cannot be shown."""
    with pytest.raises(BadImage) as caught:
        open_image(source, **options)
    assert caught.value.reason == str(caught.value)
    return caught.value.status, caught.value.reason


def array_of(image: Image.Image) -> np.ndarray:
    return np.asarray(open_image(encoded(image, "PNG")))


# Every mode to 8-bit RGB


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP"])
def test_an_rgb_image_is_its_own_pixels(format):
    opened = open_image(encoded(picture(), format))
    assert opened.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(picture()))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA"])
def test_other_modes_become_rgb_with_their_colours(mode):
    image = picture(mode=mode)
    np.testing.assert_array_equal(array_of(image), np.asarray(image.convert("RGB")))


def test_cmyk_becomes_rgb():
    colours = np.asarray(open_image(encoded(picture(mode="CMYK"), "JPEG", quality=95)), int)
    assert np.abs(colours - np.asarray(picture(), int)).mean() < 4


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(format):
    deep = np.arange(0, 65_536, 13, dtype=np.uint16)[: 71 * 71].reshape(71, 71)
    opened = np.asarray(open_image(encoded(Image.fromarray(deep), format)))
    for channel in range(3):
        np.testing.assert_array_equal(opened[..., channel], np.round(deep / 257.0))


@pytest.mark.parametrize(
    "values, white",
    [
        (np.array([[0.0, 0.25, 1.0]], np.float32), 1),
        (np.array([[0.0, 100.0, 255.0]], np.float32), 255),
        (np.array([[-5.0, np.nan, 65_535.0]], np.float32), 65_535),
        (np.array([[0, 9, 200]], np.int32), 255),
        (np.array([[-7, 1000, 65_535]], np.int32), 65_535),
        (np.array([[0, 2**30, 2**31 - 1]], np.int32), 2**32 - 1),
    ],
)
def test_32_bit_grey_is_scaled_by_the_range_it_seems_to_use(values, white):
    opened = np.asarray(open_image(encoded(Image.fromarray(values), "TIFF")))
    shown = np.nan_to_num(values.astype(np.float64)).clip(min=0) * 255 / white
    np.testing.assert_array_equal(opened[..., 0], np.round(shown))


def test_a_palette_with_transparency_keeps_its_colours_for_models_from_before():
    image = picture(mode="P")
    expected = np.asarray(image.convert("RGB"))
    one, many = (
        open_image(encoded(image, "PNG", transparency=clear), opening=BEFORE)
        for clear in (3, bytes(range(256)))
    )
    np.testing.assert_array_equal(np.asarray(one), expected)
    np.testing.assert_array_equal(np.asarray(many), expected)


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
def test_every_orientation_is_turned_upright(orientation, format, mode):
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
def test_a_damaged_exif_block_is_no_reason_to_refuse_a_picture(format, exif):
    assert open_image(encoded(picture(), format, exif=exif)).size == picture().size
    assert open_image(encoded(picture(), format, exif=EXIF)).size == picture().size[::-1]


# What cannot be shown


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1])
def test_a_truncated_file_is_refused(format, kept):
    data = encoded(picture(size=(64, 64)), format)
    status, _ = refused(data[: int(len(data) * kept)])
    assert status == "unreadable"


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_that_lacks_its_last_lines_is_refused(options):
    data = encoded(picture(size=(640, 480)), "JPEG", **options)
    status, reason = refused(data[:-100])
    assert status == "unreadable"
    assert "truncated" in reason


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.jpg").touch()
    assert refused(tmp_path / "empty.jpg") == ("unreadable", "empty file (0 bytes)")


@pytest.mark.parametrize(
    "text, reason",
    [
        *((text, UNKNOWN) for text in (b"hello\n", b"\0" * 1000, b"name,label\n")),
        (b"<svg/>", "an SVG, not a picture"),
        (b"%PDF-1.7\n", "a PDF, not a picture"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, text, reason):
    (tmp_path / "text.jpg").write_bytes(text)
    assert refused(tmp_path / "text.jpg") == ("unreadable", reason)


def test_postscript_is_refused_without_a_program_being_run(tmp_path, monkeypatch):
    """Pillow hands EPS, whatever the file is called, to the `gs` it finds."""
    program, ran = tmp_path / "gs", tmp_path / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    eps = encoded(picture(), "EPS")
    with Image.open(io.BytesIO(eps)) as image, pytest.raises(OSError, match="cannot identify"):
        image.load()
    assert ran.exists()  # as Pillow alone would …
    ran.unlink()
    assert refused(eps)[0] == "unreadable"
    assert not ran.exists()  # … and open_image does not


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG of one bit a pixel, with `rows` as its compressed rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_more_pixels_than_the_limit_are_refused_before_one_is_decoded():
    too_large = ("too_large", "20000×20000 pixels, more than the limit of 100,000,000")
    assert refused(png(20_000, 20_000, zlib.compress(bytes(20_000 * 2_501), 1))) == too_large
    assert refused(png(20_000, 20_000, b"no rows at all")) == too_large


def test_the_limit_is_the_last_size_that_passes():
    data = encoded(picture(size=(30, 20)), "PNG")
    assert open_image(data, max_pixels=600).size == (30, 20)
    assert refused(data, max_pixels=599)[0] == "too_large"


def test_a_huge_image_inside_an_icon_is_not_decoded():
    """An ICO tells at most 256×256, and Pillow decodes what it holds in order to open it."""
    inner = png(20_000, 20_000, zlib.compress(bytes(20_000 * 2_501), 1))
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inner), 22)
    assert refused(struct.pack("<HHH", 0, 1, 1) + entry + inner)[0] == "unreadable"


def test_a_file_that_may_not_be_read_is_refused():
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


def test_a_file_that_vanished_is_missing(tmp_path):
    (tmp_path / "link.jpg").symlink_to("vanished.jpg")
    for name in ("vanished.jpg", "link.jpg"):
        assert refused(tmp_path / name) == ("missing", "the file was gone when it was read")


def test_a_folder_is_unreadable(tmp_path):
    assert refused(tmp_path) == ("unreadable", "cannot be read: Is a directory")


def test_bytes_and_file_give_the_same_pixels(tmp_path):
    data = encoded(picture())
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_file(tmp_path / "a.jpg") == data
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


# fastai's resizing


@pytest.fixture(scope="module")
def fastai_resized():
    """fastai's own `Resize(size, method)`, on the validation side."""
    from fastai.vision.augment import Resize
    from fastai.vision.core import PILImage

    def resize(image: Image.Image, size: int, method: str) -> Image.Image:
        return Resize(size, method=method)(PILImage(image.copy()), split_idx=1)

    return resize


ODD_SIZES = [
    *product((1, 2, 3, 4, 5, 7, 10, 11), repeat=2),
    *[(1, 97), (300, 1), (2, 500), (501, 3), (1000, 40), (33, 900)],  # lines and panoramas
    *[(99, 100), (100, 99), (224, 223), (223, 225), (64, 64), (63, 66), (150, 113)],
]


@pytest.mark.parametrize("method", ["crop", "squish", "pad"])
def test_resized_is_fastais_own_resize_to_the_byte(fastai_resized, method):
    rng = np.random.default_rng(0)
    for width, height in ODD_SIZES:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for size in (1, 7, 32, 224):
            ours, theirs = resized(image, size, method), fastai_resized(image, size, method)
            assert ours.size == (size, size)
            assert ours.tobytes() == theirs.tobytes(), (width, height, size)


def test_a_line_that_fastai_rounds_to_nothing_is_shown(fastai_resized):
    line = Image.new("RGB", (1, 90), "red")
    assert int(1 / 49 * 49) == 0
    assert fastai_resized(line, 49, "crop").getcolors() == [(49 * 49, (0, 0, 0))]
    assert resized(line, 49, "crop").getcolors() == [(49 * 49, (255, 0, 0))]


def test_pixels_are_what_a_network_is_shown():
    data = encoded(picture(size=(50, 30)), "PNG")
    shown = pixels(data, 16, "squish", 10_000)
    assert (shown.shape, shown.dtype) == ((16, 16, 3), np.uint8)
    np.testing.assert_array_equal(shown, np.asarray(resized(open_image(data), 16, "squish")))
    with pytest.raises(BadImage, match="more than the limit"):
        pixels(data, 16, "squish", 1_000)
