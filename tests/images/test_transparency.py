"""Transparent parts become white; older models keep the hidden colours."""

import struct
import zlib

import numpy as np
import pytest
from conftest import encoded, picture
from PIL import Image

from visionflows.images.open import open_image
from visionflows.images.to_rgb import to_rgb


def logo() -> Image.Image:
    """Dark on a transparent background, whose hidden colour is black."""
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((60, 70, 80, 255), (10, 10, 30, 30))
    image.paste((0, 0, 0, 128), (0, 0, 10, 10))
    return image


def seen(image: Image.Image | bytes, **options) -> np.ndarray:
    data = image if isinstance(image, bytes) else encoded(image, "PNG")
    return np.asarray(open_image(data, **options)).astype(int)


@pytest.mark.parametrize(
    "format, options",
    [("PNG", {}), ("TIFF", {}), ("TGA", {}), ("JPEG2000", {}), ("AVIF", {"quality": 100})]
    + [("WEBP", {"lossless": True, "exact": exact}) for exact in (True, False)],
)
def test_a_logo_gets_a_white_background(format, options):
    shown = seen(encoded(logo(), format, **options))
    assert shown[35, 35].tolist() == [255] * 3
    assert abs(shown[20, 20] - (60, 70, 80)).max() <= 3
    assert abs(shown[5, 5] - 127).max() <= 3


def test_grey_with_alpha():
    shown = seen(logo().convert("LA"))
    assert shown[35, 35].tolist() == [255] * 3
    assert shown[20, 20].tolist() == [68] * 3


def test_premultiplied_alpha_is_undone_once():
    """A TIFF with ExtraSamples 1: its colours are premultiplied."""
    premultiplied = logo().convert("RGBa")
    shown = np.asarray(to_rgb(premultiplied))
    np.testing.assert_allclose(shown.astype(int), seen(logo()), atol=1)
    half = Image.merge("La", [Image.new("L", (4, 4), 64), Image.new("L", (4, 4), 128)])
    assert np.asarray(to_rgb(half))[0, 0].tolist() == pytest.approx([64 + 127] * 3, abs=1)


@pytest.mark.parametrize("clear", [3, bytes([255, 0, 128, *[255] * 253])])
def test_palettes(clear):
    image = picture(mode="P")
    alpha = np.full(256, 255)
    alpha[: len(clear) if isinstance(clear, bytes) else 0] = [*clear] if clear != 3 else []
    if clear == 3:
        alpha[3] = 0
    share = alpha[np.asarray(image)][..., None] / 255
    expected = np.asarray(image.convert("RGB")) * share + 255 * (1 - share)
    np.testing.assert_allclose(seen(encoded(image, "PNG", transparency=clear)), expected, atol=1)
    if clear == 3:
        np.testing.assert_array_equal(
            seen(encoded(image, "GIF", transparency=3, optimize=False)), expected
        )


def test_palette_with_alpha():
    image = logo().convert("PA")
    assert np.asarray(to_rgb(image))[35, 35].tolist() == [255] * 3


def png(bits: int, colour: int, rows: bytes, clear: bytes) -> bytes:
    """A PNG of 2×1 pixels with a transparent colour in tRNS, in the bit depth of the file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    chunks = (
        chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, bits, colour, 0, 0, 0)),
        *(chunk(b"tRNS", clear), chunk(b"IDAT", zlib.compress(b"\0" + rows)), chunk(b"IEND", b"")),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    "bits, colour, rows, clear, other",
    [
        (1, 0, b"\x80", b"\0\0", 255),
        (2, 0, b"\x60", b"\0\2", 85),
        (4, 0, b"\x5c", b"\0\x0c", 85),
        (8, 0, b"\x0a\x07", b"\0\7", 10),
        (16, 0, b"\x01\x01\x80\x07", b"\x80\x07", 1),
        (8, 2, b"\x0a\x0a\x0a\x07\x07\x07", b"\0\7\0\7\0\7", 10),
        (16, 2, b"\x0a\x00" * 3 + b"\x80\x07" * 3, b"\x80\x07" * 3, 10),
    ],
)
def test_a_transparent_colour_at_every_depth(bits, colour, rows, clear, other):
    shown = seen(png(bits, colour, rows, clear))
    white = {pixel[0] for pixel in shown[0].tolist()}
    assert white == {255, other}


def test_strips_show_nothing(monkeypatch):
    whole = seen(logo())
    monkeypatch.setattr("visionflows.images.to_rgb.STRIP", 100)
    np.testing.assert_array_equal(seen(logo()), whole)
