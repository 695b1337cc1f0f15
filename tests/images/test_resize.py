"""Resizing equals fastai's exactly, and `pixels` is the input of the network."""

from itertools import product

import numpy as np
import pytest
from conftest import encoded, picture
from PIL import Image

from visionflows.images.image_status import BadImage
from visionflows.images.open import open_image, pixels
from visionflows.images.resize import resize_image


@pytest.fixture(scope="module")
def fastai_resized():
    """fastai's `Resize(size, method)` for validation."""
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
def test_resizing_equals_fastais_exactly(fastai_resized, method):
    rng = np.random.default_rng(0)
    for width, height in ODD_SIZES:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for size in (1, 7, 32, 224):
            actual, expected = (
                resize_image(image, size, method),
                fastai_resized(image, size, method),
            )
            assert actual.size == (size, size)
            assert actual.tobytes() == expected.tobytes(), (width, height, size)


def test_an_image_that_fastai_rounds_to_zero_pixels_is_resized(fastai_resized):
    line = Image.new("RGB", (1, 90), "red")
    assert int(1 / 49 * 49) == 0
    assert fastai_resized(line, 49, "crop").getcolors() == [(49 * 49, (0, 0, 0))]
    assert resize_image(line, 49, "crop").getcolors() == [(49 * 49, (255, 0, 0))]


def test_pixels_are_the_input_of_the_network():
    data = encoded(picture(size=(50, 30)), "PNG")
    shown = pixels(data, 16, "squish", 10_000)
    assert (shown.shape, shown.dtype) == ((16, 16, 3), np.uint8)
    np.testing.assert_array_equal(shown, np.asarray(resize_image(open_image(data), 16, "squish")))
    with pytest.raises(BadImage, match="more than the limit"):
        pixels(data, 16, "squish", 1_000)
