"""Every mode and depth of a picture becomes 8-bit RGB, scaled rather than clipped."""

import numpy as np
import pytest
from conftest import encoded, picture
from PIL import Image

from visionflows.images.decode_options import BEFORE
from visionflows.images.open import open_image

# The filter of images.open is out of force inside pytest, which sets its own.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def array_of(image: Image.Image) -> np.ndarray:
    return np.asarray(open_image(encoded(image, "PNG")))


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
        open_image(encoded(image, "PNG", transparency=clear), decode_options=BEFORE)
        for clear in (3, bytes(range(256)))
    )
    np.testing.assert_array_equal(np.asarray(one), expected)
    np.testing.assert_array_equal(np.asarray(many), expected)
