"""Colours are converted to sRGB where a file declares another space; damaged profiles cost none."""

import io
import struct
import time
import zlib

import icc_files
import numpy as np
import pillow_heif
import pytest
from conftest import encoded, picture
from PIL import Image, ImageCms

from visionflows.images import color_profiles
from visionflows.images.decode_options import DecodeOptions
from visionflows.images.open import open_image
from visionflows.models.schema import ModelInfo
from visionflows.reports.thumbnails import shrink_to_jpeg
from visionflows.training.settings import TrainSettings

pillow_heif.register_heif_opener()
CONVERTED = DecodeOptions(color_profiles="convert")
RED, BLUE = (205, 25, 25), (25, 25, 205)


def flat(colour, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (48, 32), colour)


def shown(data: bytes, options: DecodeOptions = CONVERTED) -> list[int]:
    return np.asarray(open_image(data, decode_options=options)).mean((0, 1)).round().tolist()


def near(colour) -> object:
    return pytest.approx(colour, abs=8)  # gamma 2.2 is darker


def with_chunks(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """The PNG with chunks behind its header."""
    made = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return data[:33] + b"".join(made) + data[33:]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "MPO"])
def test_a_profile_is_used_in_every_format(format):
    data = encoded(flat(RED), format, icc_profile=icc_files.SWAPPED, quality=95)
    assert shown(data) == near(BLUE)
    assert shown(data, DecodeOptions(side=4, color_profiles="convert")) == near(BLUE)
    assert shown(data, DecodeOptions()) == near(RED)


def test_a_jpeg_without_its_damaged_metadata_keeps_its_profile():
    data = encoded(flat(RED), "JPEG", icc_profile=icc_files.SWAPPED, quality=95)
    assert shown(data[:20] + bytes(300) + data[20:]) == near(BLUE)  # zeros between segments


@pytest.mark.parametrize(
    "image",
    [
        flat(RED).quantize(4),
        flat((*RED, 255), "RGBA"),
        flat((*RED, 0), "RGBA"),
    ],
)
def test_palettes_and_alpha(image):
    data = encoded(image, "PNG", icc_profile=icc_files.SWAPPED)
    assert shown(data) == near(BLUE if shown(data, DecodeOptions()) == near(RED) else [255] * 3)


def test_linear_light_is_made_brighter():
    for mode, format in (("RGB", "JPEG"), ("RGB", "PNG"), ("L", "JPEG"), ("LA", "PNG")):
        profile = icc_files.rgb(exponent=1.0) if mode == "RGB" else icc_files.grey(1.0)
        image = flat((55,) * 3).convert(mode)
        assert shown(encoded(image, format, icc_profile=profile)) == near([128] * 3), (mode, format)
    deep = Image.fromarray(np.full((8, 8), 55 * 257, np.uint16))
    assert shown(encoded(deep, "TIFF", icc_profile=icc_files.grey(1.0))) == near([128] * 3)


def srgb_of_p3(colour, exponent: float | None = None) -> list[float]:
    """A colour of Display P3, with its own curve or a gamma, in sRGB."""
    signal = np.array(colour) / 255
    curve = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    xyz = np.transpose(icc_files.P3) @ (signal**exponent if exponent else curve)
    light = np.linalg.solve(np.transpose(icc_files.SRGB), xyz).clip(0, 1)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * srgb).tolist()


def test_display_p3_is_converted_as_its_matrix_says():
    data = encoded(flat((190, 45, 38)), "PNG", icc_profile=icc_files.rgb(icc_files.P3))
    assert shown(data) == pytest.approx(srgb_of_p3((190, 45, 38), 2.2), abs=2)


def test_cmyk_is_converted_by_its_own_profile():
    inks = flat((0, 255, 0, 0), "CMYK")
    for format in ("JPEG", "TIFF"):
        data = encoded(inks, format, icc_profile=icc_files.cmyk(), quality=95)
        faint = shown(data)
        assert faint[1] > 130 > shown(data, DecodeOptions())[1]
        assert shown(data, DecodeOptions(side=4, color_profiles="convert")) == near(faint)


def variants_of_srgb() -> dict[str, bytes]:
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    coded = color_profiles._made_profile(color_profiles._SRGB, "srgb")
    return {"LittleCMS": made.tobytes(), "made of codes": coded or b""}


@pytest.mark.parametrize("name", variants_of_srgb())
def test_srgb_is_not_converted(name):
    data = encoded(picture(), "PNG", icc_profile=variants_of_srgb()[name])
    assert open_image(data, decode_options=CONVERTED).tobytes() == picture().tobytes()
    with Image.open(io.BytesIO(data)) as image:
        assert color_profiles.color_profile(image, data) is None


LINEAR, PQ = (b"gAMA", struct.pack(">I", 100_000)), (b"cICP", bytes([9, 16, 0, 1]))


@pytest.mark.parametrize(
    "grey, chunks, expected",
    [
        (55, [LINEAR], 128),
        (128, [LINEAR, (b"sRGB", b"\0")], 128),
        (20, [(b"gAMA", struct.pack(">I", 45_455))], 20),
        (148, [PQ], 255),
        (148, [PQ, LINEAR], 255),
        (191, [(b"cICP", bytes([9, 18, 0, 1]))], 255),
        (20, [(b"cICP", bytes([1, 13, 0, 1]))], 20),
        (55, [LINEAR, (b"cHRM", bytes(32))], 55),
        (55, [(b"gAMA", bytes(4))], 55),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_codes_of_a_png(mode, grey, chunks, expected):
    data = with_chunks(encoded(flat((grey,) * 3).convert(mode), "PNG"), *chunks)
    assert shown(data) == pytest.approx([expected] * 3, abs=2)
    assert shown(data, DecodeOptions()) == [grey] * 3


def test_primaries_of_a_png_and_an_avif():
    """Display P3 by cHRM, by cICP and by nclx."""
    plain, expected = encoded(flat((190, 45, 38)), "PNG"), srgb_of_p3((190, 45, 38))
    points = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    chrm = (b"cHRM", struct.pack(">8I", *points))
    assert shown(with_chunks(plain, (b"gAMA", struct.pack(">I", 45_455)), chrm)) == near(expected)
    assert shown(with_chunks(plain, (b"cICP", bytes([12, 13, 0, 1])))) == near(expected)
    data = encoded(flat((190, 45, 38)), "AVIF", quality=100)
    at = data.index(b"colrnclx") + 8
    assert shown(data) == near([190, 45, 38])
    assert shown(data[:at] + b"\0\x0c" + data[at + 2 :]) == near(expected)


def damaged_profiles() -> dict[str, bytes]:
    good, rng = icc_files.SWAPPED, np.random.default_rng(0)
    return {
        "junk": rng.bytes(300),
        "cut": good[:200],
        "header only": good[:128],
        "of greys": icc_files.grey(1.0),
        "of inks": icc_files.cmyk(),
        "of a link": good[:12] + b"link" + good[16:],
        "many tags": good[:128] + b"\xff" * 4 + good[132:],
        "multi-process elements": icc_files.profile(b"RGB ", {b"D2B0": bytes(40), b"A2B0": b""}),
        "too large": good + bytes(color_profiles.MAX_PROFILE_BYTES),
    }


@pytest.mark.parametrize("name", damaged_profiles())
def test_an_unusable_profile_costs_nothing(name):
    data = encoded(flat(RED), "TIFF", icc_profile=damaged_profiles()[name])
    assert shown(data) == list(RED)


def test_a_damaged_profile_takes_bounded_time():
    rng = np.random.default_rng(1)
    started = time.process_time()
    for original in (icc_files.SWAPPED, icc_files.cmyk()) * 8:
        profile = bytearray(original)
        for at in rng.integers(128, len(profile), 5):
            profile[at] = rng.integers(256)
        mode = "CMYK" if b"CMYK" in original else "RGB"
        shown(encoded(flat(0, mode), "TIFF", icc_profile=bytes(profile)))
    assert time.process_time() - started < 10


def test_transforms_are_kept_by_profile_and_bounded(monkeypatch):
    monkeypatch.setattr(color_profiles, "MAX_TRANSFORMS", 4)
    color_profiles._transforms.clear()
    for number in range(2 * color_profiles.MAX_TRANSFORMS):
        profile = icc_files.rgb(exponent=1 + number / 64)
        first = color_profiles._transform(profile)
        assert first is color_profiles._transform(bytes(bytearray(profile)))
        assert len(color_profiles._transforms) <= color_profiles.MAX_TRANSFORMS


def test_thumbnails_are_converted():
    data = encoded(flat(RED), "JPEG", icc_profile=icc_files.SWAPPED)
    assert shown(shrink_to_jpeg(data)) == near(BLUE)


@pytest.mark.parametrize(
    "settings, conversion",
    [
        ({}, "convert"),
        ({"pretrained": "none"}, "convert"),
        ({"recipe": "fastai"}, "ignore"),
        ({"recipe": "fastai", "color_profiles": "convert"}, "convert"),
        ({"recipe": "probe", "color_profiles": "ignore"}, "ignore"),
    ],
)
def test_the_settings_of_a_training(settings, conversion):
    settings = TrainSettings(**settings)
    for one in (settings, settings.resolved()):
        assert one.decode_options.color_profiles == conversion


def test_a_model_of_before_does_not_convert():
    assert ModelInfo.model_fields["color_profiles"].default == "ignore"
