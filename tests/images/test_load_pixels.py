"""Palettes, alpha channels and float ranges as viewers show them."""

import struct
import zlib

import numpy as np
import pytest
from conftest import encoded
from PIL import Image

from visionflows.images.open import open_image

RED, WHITE = [205, 25, 25], [255, 255, 255]


def shown(data: bytes) -> list[int]:
    return np.asarray(open_image(data)).mean((0, 1)).round().tolist()


@pytest.mark.parametrize("scale", [1, 257])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_palette_of_8_or_16_bits(scale, compression):
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, *RED])
    data = bytearray(encoded(image, "TIFF", compression=compression))
    (at,) = struct.unpack_from("<I", data, 4)
    entries = [at + 2 + 12 * number for number in range(struct.unpack_from("<H", data, at)[0])]
    (entry,) = (one for one in entries if struct.unpack_from("<H", data, one)[0] == 320)
    count, place = struct.unpack_from("<II", data, entry + 4)
    values = np.zeros((3, count // 3), "<u2")
    values[:, 1] = np.array(RED) * scale
    data[place : place + 2 * count] = values.tobytes()
    assert shown(bytes(data)) == RED


def bmp(alpha: int, header: int = 108, first: int | None = None) -> bytes:
    """A BMP with a mask of alpha; `first` is the alpha of one pixel, if another."""
    pixels = bytearray(bytes([*RED[::-1], alpha]) * 256)
    pixels[3] = alpha if first is None else first
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs"
    info = struct.pack("<IiiHHIIiiII", header, 16, 16, 1, 32, 3, 1024, 0, 0, 0, 0) + masks
    at = 14 + header
    head = b"BM" + struct.pack("<IHHI", at + 1024, 0, 0, at)
    return head + info.ljust(header, b"\0") + bytes(pixels)


def tga(alpha: int, bits: int) -> bytes:
    """A TGA with `bits` of alpha by its header."""
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 16, 16, 32, bits | 0x20)
    return head + bytes([*RED[::-1], alpha]) * 256


@pytest.mark.parametrize(
    "data, colour",
    [
        (bmp(0), RED),
        (bmp(0, header=124), RED),
        (bmp(255), RED),
        (bmp(0, first=255), WHITE),
        (tga(0, 0), RED),
        (tga(0, 8), RED),
        (tga(255, 8), RED),
        (encoded(Image.new("RGBA", (16, 16), (*RED, 0)), "PNG"), WHITE),
        (encoded(Image.new("RGBA", (16, 16), (*RED, 0)), "WEBP", lossless=True), WHITE),
    ],
)
def test_an_alpha_of_zero_everywhere_is_none_in_bmp_and_tga(data, colour):
    assert shown(data) == pytest.approx(colour, abs=1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_pfm_is_from_0_to_1(order):
    values = np.linspace(0, 1.2, 256).astype(order + "f4").reshape(16, 16)
    head = b"Pf\n16 16\n%s1.0\n" % (b"-" if order == "<" else b"")
    seen = np.asarray(open_image(head + values[::-1].tobytes()))[..., 0]
    np.testing.assert_allclose(seen, (values * 255).clip(0, 255), atol=1)


def deep_png(colour: tuple[int, ...], key: tuple[int, ...], size: int = 16) -> bytes:
    """A PNG of 16 bits a channel, one pixel in the colour of tRNS and all others in another."""
    pixels = np.full((size, size, 3), colour, ">u2")
    pixels[0, 0] = key
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", size, size, 16, 2, 0, 0, 0)),
        (b"tRNS", struct.pack(">HHH", *key)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    made = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def test_a_transparent_colour_of_16_bits_is_compared_in_16(monkeypatch):
    monkeypatch.setattr("visionflows.images.to_rgb.STRIP", 20)
    seen = np.asarray(open_image(deep_png((0x0301, 0x0202, 0x0303), (0x0302, 0x0202, 0x0303))))
    assert seen[0, 0].tolist() == WHITE
    assert (seen.reshape(-1, 3)[1:] == [3, 2, 3]).all()


@pytest.mark.parametrize("transparency", [{}, {"transparency": 0}])
def test_outside_the_first_frame_of_a_gif_is_white(transparency):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, *RED])
    data = encoded(image, "GIF", optimize=False, **transparency)
    seen = np.asarray(open_image(data[:6] + struct.pack("<HH", 16, 12) + data[10:]))
    assert seen.shape == (12, 16, 3)
    assert (seen[:4, :4] == RED).all()
    assert (seen[4:] == 255).all()
    assert (seen[:, 4:] == 255).all()
