"""Images of more than 8 bits: the declared range is used, and single pixels have no effect."""

import logging
import math
import struct

import numpy as np
import pytest
import tifffile
from conftest import encoded
from PIL import Image, TiffImagePlugin

from visionflows.images import isolation
from visionflows.images.open import open_image

GREY = np.linspace(0, 1, 64 * 64).reshape(64, 64)  # from black to white


@pytest.fixture
def tif(tmp_path):
    """A TIFF of the values, written by tifffile."""

    def write(values: np.ndarray, photometric: str = "minisblack", **options) -> bytes:
        tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric, **options)
        return (tmp_path / "a.tif").read_bytes()

    return write


def twelve_bits(values: np.ndarray) -> bytes:
    """A TIFF of two values in three bytes, which tifffile writes only with imagecodecs."""
    pairs = values.reshape(-1, 2).astype(int)
    first, second = pairs[:, 0], pairs[:, 1]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1)
    data = packed.astype(np.uint8).tobytes()
    height, width = values.shape
    begins = 8 + 2 + 9 * 12 + 4
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: begins, 277: 1}
    tags |= {278: height, 279: len(data)}
    entries = (struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, 9) + b"".join(entries) + bytes(4) + data


def assert_shows(data: bytes, shown: np.ndarray = GREY, atol: float = 1) -> None:
    seen = np.asarray(open_image(data))
    assert (seen == seen[..., :1]).all()
    np.testing.assert_allclose(seen[..., 0], shown * 255, atol=atol)


@pytest.mark.parametrize("order", ["<", ">"])
def test_black_is_zero(tif, order):
    assert_shows(tif((GREY * 65_535).astype(np.uint16), byteorder=order))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_white_is_zero(tif, compression):
    inverted = ((1 - GREY) * 65_535).astype(np.uint16)
    assert_shows(tif(inverted, "miniswhite", compression=compression))
    assert_shows(tif(((1 - GREY) * 255).astype(np.uint8), "miniswhite", compression=compression))
    assert_shows(tif((1 - GREY).astype(np.float32), "miniswhite", compression=compression))


def test_twelve_bits():
    assert_shows(twelve_bits((GREY * 4095).astype(np.uint16)))


def test_the_declared_sample_range_is_used(tif):
    tags = [(340, "H", 1, 0, True), (341, "H", 1, 4095, True)]
    assert_shows(tif((GREY * 4095).astype(np.uint16), extratags=tags))
    tags = [(340, "f", 1, -2.0, True), (341, "f", 1, 6.0, True)]
    assert_shows(tif((GREY * 8 - 2).astype(np.float32), extratags=tags))
    tags = [(340, "h", 1, -1000, True), (341, "h", 1, 3000, True)]
    assert_shows(tif((GREY * 4000 - 1000).astype(np.int16), extratags=tags))


@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_samples(tif, order):
    assert_shows(tif((GREY * 65_535 - 32_768).astype(np.int16), byteorder=order))
    assert_shows(tif((GREY * 255 - 128).astype(np.int8), byteorder=order))
    half = (GREY * 32_767).astype(np.int16)  # only one pixel is below 0
    half[0, 0] = -3
    assert_shows(tif(half, byteorder=order))


@pytest.mark.parametrize("white", [1.0, 255.0, 65_535.0])
@pytest.mark.parametrize("over", [1.02, 1.5, 300.0, np.inf, np.nan, -9999.0])
def test_single_float_pixels_do_not_set_the_range(tif, white, over):
    values = (GREY * white).astype(np.float32)
    values[0, 1:4] = over * white
    expected = GREY.copy()
    expected[0, 1:4] = 1 if over > 1 and np.isfinite(over) else expected[0, 1:4]
    seen = np.asarray(open_image(tif(values)))[..., 0]
    np.testing.assert_allclose(seen[1:], GREY[1:] * 255, atol=1)
    if over > 1:
        assert (seen[0, 1:4] == 255).all()


def test_values_beyond_overshoot_set_another_white(tif):
    values = GREY.astype(np.float32)
    values[:1] = 200  # one row of 64
    seen = np.asarray(open_image(tif(values)))[..., 0]
    assert seen[0, 0] == 200
    assert seen[1:].max() == 1


def test_a_dark_16_bit_pgm_stays_dark():
    """Pillow opens it in mode I, like 32-bit images."""
    dark = np.full((8, 8), 200, np.uint16)
    assert np.asarray(open_image(encoded(Image.fromarray(dark), "PPM"))).max() == 1


def test_an_assumed_range_is_logged_once(tif, caplog):
    isolation.end_idle()  # each process logs it once
    isolation._log_once.cache_clear()
    with caplog.at_level(logging.INFO, "visionflows.images"):
        open_image(tif((GREY * 65_535).astype(np.uint16)))
        assert not caplog.messages
        for _ in range(3):
            open_image(tif(GREY.astype(np.float32)))
    (line,) = caplog.messages
    assert "assumed" in line


@pytest.mark.parametrize("least, most", [(0.0, math.inf), (-1e308, 1e308), (0.0, math.nan)])
def test_an_invalid_range_is_ignored(least, most):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[340], tags[341] = least, most
    deep = Image.fromarray(np.linspace(0, 65_535, 1600).reshape(40, 40).astype(np.uint16))
    assert open_image(encoded(deep, "TIFF", tiffinfo=tags)).getextrema()[0] == (0, 255)
