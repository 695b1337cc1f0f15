"""Images of every mode and bit depth become 8-bit RGB, scaled and not clipped."""

import numpy as np
import pytest
from conftest import encoded, picture
from PIL import Image

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
