"""HEIC and HEIF, decoded by libheif and rotated once."""

import io

import numpy as np
import pillow_heif
import pytest
from conftest import encoded, picture
from image_files import size_of
from PIL import Image

from visionflows.images.decode_options import DecodeOptions
from visionflows.images.image_status import BadImage
from visionflows.images.open import open_image, pixels

pillow_heif.register_heif_opener()


def far(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, int) - np.asarray(other, int)).mean())


def test_heic_is_decoded():
    shown = open_image(encoded(picture(), "HEIF", quality=95))
    assert (shown.mode, shown.size) == ("RGB", (48, 40))
    assert far(shown, picture()) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once(orientation):
    """pillow-heif stores the orientation both in the file and in EXIF, like phones."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = picture()
    turned.info["exif"] = exif.tobytes()
    data = encoded(turned, "HEIF", quality=95)
    assert b"Exif\0\0" in data
    assert b"irot" in data or b"imir" in data or orientation == 1
    with pillow_heif.HeifImageFile(io.BytesIO(data)) as image:
        upright = image.convert("RGB")
    asked = encoded(picture(), "PNG", exif=exif)
    assert size_of(data) == open_image(asked).size
    assert far(open_image(data), open_image(asked)) < 4
    assert far(open_image(data), upright) < 1


def test_transparent_parts_are_white():
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((200, 30, 30, 255), (0, 0, 64, 32))
    shown = np.asarray(open_image(encoded(image, "HEIF", quality=95)))
    assert shown[40:].min() > 245
    assert abs(shown[10, 10].astype(int) - (200, 30, 30)).max() < 12


def test_a_truncated_heic_is_a_row():
    data = encoded(picture(size=(200, 160)), "HEIF")
    for kept in (20, len(data) // 2, len(data) - 20):
        with pytest.raises(BadImage) as caught:
            open_image(data[:kept])
        assert caught.value.status == "unreadable"


def test_limits_apply():
    with pytest.raises(BadImage, match="more than the limit"):
        open_image(encoded(picture(), "HEIF"), max_pixels=100)


def test_a_large_image_is_downscaled():
    data = encoded(picture(size=(640, 480)), "HEIF", quality=95)
    whole, scaled = (
        pixels(data, 32, "crop", decode_options=DecodeOptions(side=side)) for side in (None, 32)
    )
    assert np.abs(whole.astype(int) - scaled).mean() < 3
    assert open_image(data, decode_options=DecodeOptions(side=32)).size == (128, 96)
