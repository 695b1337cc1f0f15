"""Large images are decoded downscaled: at least twice the network's side, with similar pixels."""

import io

import numpy as np
import pillow_heif
import pytest
from conftest import encoded
from image_files import decoded_within, refused, size_of
from PIL import Image

from visionflows.images import to_rgb
from visionflows.images.decode_options import DecodeOptions
from visionflows.images.image_status import BadImage
from visionflows.images.memory_limits import MemoryLimits, decoding_bytes
from visionflows.images.open import open_image, pixels
from visionflows.scoring.settings import ScoreSettings
from visionflows.training.settings import TrainSettings

pillow_heif.register_heif_opener()
SCALED = DecodeOptions(side=32)


def photo(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """An image as smooth as a photo, with four different corners."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize(
    "size, decoded",
    [
        ((127, 127), (127, 127)),
        ((128, 200), (64, 100)),
        ((4032, 3024), (504, 378)),
        ((512, 512), (64, 64)),
        ((511, 4000), (128, 1000)),
        ((64, 3000), (64, 3000)),
    ],
)
def test_a_jpeg_keeps_twice_the_networks_side(size, decoded):
    assert open_image(encoded(photo(size), "JPEG"), decode_options=SCALED).size == decoded


@pytest.mark.parametrize("mode, format", [("RGB", "PNG"), ("RGBA", "WEBP"), ("P", "GIF")])
def test_other_formats_are_downscaled_by_integer_factors(mode, format):
    data = encoded(photo((640, 481), mode), format)
    shown = open_image(data, decode_options=SCALED)
    assert shown.size == (128, 96)
    assert size_of(data, decode_options=SCALED) == (640, 481)
    assert open_image(encoded(photo((127, 300), mode), format), decode_options=SCALED).size == (
        127,
        300,
    )


MODES = ["RGB", "L", "P", "RGBA", "LA", "1", "I;16", "F", "CMYK"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("strip", [1, 2000, 1 << 18])
def test_every_mode_is_downscaled_like_its_rgb(mode, strip, monkeypatch):
    if mode == "I;16":
        image = Image.fromarray(np.asarray(photo((330, 250), "L")).astype(np.uint16) * 257)
    else:
        image = photo((330, 250), mode)
    whole = to_rgb.to_rgb(image)
    monkeypatch.setattr(to_rgb, "STRIP", strip)
    for factor in (2, 3, 7):
        left, top = 330 % factor // 2, 250 % factor // 2
        box = (left, top, left + 330 // factor * factor, top + 250 // factor * factor)
        downscaled = to_rgb.to_rgb(image, factor=factor)
        assert downscaled.tobytes() == whole.reduce(factor, box).tobytes(), factor


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "HEIF", "MPO"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_networks_input_is_nearly_the_same(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo((1201, 902)), format, quality=95, exif=exif)
    for method in ("crop", "squish", "pad"):
        whole, scaled = (
            pixels(data, 64, method, decode_options=DecodeOptions(side=side)).astype(int)
            for side in (None, 64)
        )
        assert np.abs(whole - scaled).mean() < 1.5, method
    assert size_of(data, decode_options=SCALED) == open_image(data).size


def test_a_small_image_is_unchanged():
    data = encoded(photo((127, 250)), "JPEG")
    whole, scaled = (
        pixels(data, 32, "crop", decode_options=DecodeOptions(side=side)) for side in (None, 32)
    )
    np.testing.assert_array_equal(whole, scaled)


def test_full_decoding_is_unchanged():
    """`--decode full`."""
    data = encoded(photo((900, 700)), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        expected = image.convert("RGB").tobytes()
    assert open_image(data, decode_options=DecodeOptions()).tobytes() == expected


def test_a_108_megapixel_jpeg_passes_if_decoded_downscaled():
    data = encoded(Image.new("L", (12_000, 9_000), 128), "JPEG")
    with pytest.raises(BadImage, match="more than the limit of 100,000,000"):
        open_image(data, 100_000_000)
    assert pixels(data, 32, "crop", decode_options=SCALED).mean() == 128
    assert size_of(data, decode_options=SCALED) == (12_000, 9_000)
    with pytest.raises(BadImage, match="1500×1125 pixels, more than the limit"):
        open_image(data, 1_000_000, decode_options=SCALED)


@pytest.mark.parametrize("settings", [TrainSettings, ScoreSettings])
def test_the_help_explains_max_pixels(settings):
    """For a JPEG the decoded pixels, for other formats all pixels."""
    jpeg, png = (encoded(photo((900, 700)), format) for format in ("JPEG", "PNG"))
    assert size_of(jpeg, max_pixels=300_000, decode_options=SCALED) == (900, 700)
    for data, decode_options in ((jpeg, DecodeOptions()), (png, SCALED)):
        with pytest.raises(BadImage, match="900×700 pixels, more than the limit of 300,000"):
            size_of(data, max_pixels=300_000, decode_options=decode_options)
    message = " ".join(settings.model_fields["max_pixels"].description.split())
    assert "more pixels" in message
    assert "A large JPEG is decoded" in message
    assert message.endswith(", unless `decode` is full.")


def test_the_memory_of_a_progressive_jpeg_is_counted(monkeypatch):
    monkeypatch.setattr("visionflows.images.memory_limits.memory_bytes", lambda: 60_000_000)
    plain, progressive = (
        encoded(photo((3000, 2000)), "JPEG", progressive=progressive, quality=30)
        for progressive in (False, True)
    )
    assert decoded_within(MemoryLimits(), plain, SCALED).size == (375, 250)
    with pytest.raises(BadImage, match="3000×2000 pixels") as caught:
        decoded_within(MemoryLimits(), progressive, SCALED)
    assert caught.value.status == "too_large"


def claiming(data: bytes, side: int) -> bytes:
    """A JPEG whose header declares a square of `side`, without pixel data."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + side.to_bytes(2) * 2 + data[at + 4 :]


def test_a_jpeg_in_many_scans_is_counted_as_a_progressive_one():
    data = claiming(encoded(photo((64, 64)), "JPEG"), 65_000)
    at = data.index(b"\xff\xda")
    first = b"\xff\xda\0\x08\1\1\0\0\x3f\0"  # of the first component only
    status, reason = refused(data[:at] + first + data[at + 14 :], decode_options=SCALED)
    assert status == "too_large"
    assert "to decode, more than the limit" in reason


def test_a_jpeg_without_its_end_is_refused_within_the_limits():
    data = claiming(encoded(photo((64, 64)), "JPEG"), 65_000)
    status, reason = refused(data.removesuffix(b"\xff\xd9"), decode_options=SCALED)
    assert status == "unreadable"
    assert "premature end of data" in reason


def test_the_estimate_uses_the_draft_size():
    with Image.open(io.BytesIO(encoded(photo((4000, 3000)), "JPEG"))) as image:
        whole = decoding_bytes(image)
        image.draft(None, (400, 300))
        assert decoding_bytes(image) * 60 < whole
