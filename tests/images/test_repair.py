"""Damaged metadata never costs a picture; damage to its pixels does, and crashes nothing.

VISIONFLOWS_FUZZ=2000 tries so many of each format; a few by default.
"""

import io
import os
import random

import numpy as np
import pytest
from conftest import encoded, picture
from damaged_files import METADATA, chunk, segment
from PIL import Image

from visionflows.images import jpeg
from visionflows.images.image_status import BadImage
from visionflows.images.open import open_image
from visionflows.images.repair import versions

TRIES = int(os.environ.get("VISIONFLOWS_FUZZ", "40"))


def refused(data: bytes) -> bool:
    try:
        open_image(data)
    except BadImage:
        return True
    return False


def shape(image: Image.Image) -> np.ndarray:
    """What stays of a picture that damaged EXIF may have turned: its values, sorted."""
    return np.sort(np.asarray(image).reshape(-1, 3), axis=0)


@pytest.mark.parametrize("format", METADATA)
def test_damaged_metadata_alone_is_never_refused(format):
    data, spans = METADATA[format](picture())
    whole = shape(open_image(data))
    rng = random.Random(format)
    for _ in range(TRIES):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 2, 8, 60))):
            start, end = rng.choice(spans)
            damaged[rng.randrange(start, end)] = rng.choice((0, 255, rng.randrange(256)))
        np.testing.assert_array_equal(shape(open_image(bytes(damaged))), whole)


@pytest.mark.parametrize("format", METADATA)
def test_damaged_pixels_crash_nothing(format):
    data, spans = METADATA[format](picture())
    rng = random.Random(format)
    begins = max(end for _, end in spans) if format not in ("TIFF", "AVIF", "HEIF", "WEBP") else 40
    for _ in range(TRIES):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            damaged[rng.randrange(begins, len(data))] = rng.randrange(256)
        refused(bytes(damaged[: rng.choice((len(data), rng.randrange(len(data))))]))


# JPEG


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("size", [(64, 64), (333, 250)])
def test_a_jpeg_that_lacks_its_end_alone_is_whole(options, size):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 40, (size[1], size[0], 3), dtype=np.uint8)
    data = encoded(Image.fromarray(np.asarray(picture(size=size)) // 2 + noise), "JPEG", **options)
    whole = open_image(data).tobytes()
    assert open_image(data[:-2]).tobytes() == whole
    assert open_image(data[:-1]).tobytes() == whole
    for missing in (6, 12, 100, len(data) // 3):
        assert refused(data[:-missing]), missing


@pytest.mark.parametrize(
    "options",
    [
        {"restart_marker_blocks": 4},
        {"restart_marker_rows": 1},
        {"progressive": True},
        {"progressive": True, "restart_marker_rows": 1, "subsampling": 0},
    ],
)
def test_a_jpeg_cut_before_a_marker_is_not_whole(options):
    data = encoded(picture(size=(96, 80)), "JPEG", quality=90, **options)
    whole = open_image(data).tobytes()
    assert open_image(data[:-2]).tobytes() == whole
    cuts = [at for at in range(700, len(data) - 2) if data[at] == 0xFF and data[at + 1]]
    assert len(cuts) > 2
    for cut in cuts:
        assert refused(data[:cut]), cut
        assert refused(data[: cut + 1]), cut


def test_zeros_in_place_of_what_is_missing_are_no_pixels():
    data = encoded(picture(size=(640, 480)), "JPEG")
    kept = len(data) * 7 // 10
    assert refused(data[:kept] + bytes(len(data) - kept))


@pytest.mark.parametrize("length", [2, 40, 300, 60_000])
def test_a_segment_that_lies_about_its_length(length):
    """The thumbnail in it, a JPEG of its own, is not taken for the picture."""
    data, _ = METADATA["JPEG"](picture())
    at = data.index(b"Exif\0\0") - 2
    lying = data[:at] + length.to_bytes(2) + data[at + 2 :]
    assert open_image(lying).tobytes() == open_image(data).tobytes()


@pytest.mark.parametrize("at", range(4))
def test_a_second_picture_never_stands_for_a_broken_first_one(at):
    data = bytearray(encoded(picture(0), "MPO", save_all=True, append_images=[picture(1)]))
    data[data.index(b"\xff\xc0") + at] ^= 0x11
    assert refused(bytes(data))


def test_orientation_outlives_damage_beside_it():
    turned = Image.Exif()
    turned[0x0112] = 6
    data = encoded(picture(), "JPEG", exif=turned)
    data = data[:2] + segment(0xE0, b"JFIF\0") + data[2:]  # too short for what it says
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(data))
    assert open_image(data).size == (40, 48)


def test_bare_leaves_nothing_but_what_makes_pixels():
    data, _ = METADATA["JPEG"](picture())
    bare = jpeg.bare(data, exif=False)
    assert b"Exif" not in bare
    assert open_image(bare).tobytes() == open_image(data).tobytes()


# PNG


def with_chunks(*chunks: bytes) -> bytes:
    data = encoded(picture(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"pHYs", b"gAMA", b"cHRM"])
@pytest.mark.parametrize("body", [b"", b"a", b"Comment\0made by hand", b"\0" * 40])
def test_what_a_png_says_beside_its_pixels(kind, body):
    sound = chunk(kind, body)
    for one in (sound, sound[:-4] + bytes(4)):
        assert open_image(with_chunks(one)).tobytes() == picture().tobytes()


def test_a_chunk_that_lies_about_its_length():
    text = chunk(b"tEXt", b"Comment\0made by hand")
    for length in (3, 500, 2**31):
        lying = with_chunks(length.to_bytes(4) + text[4:])
        assert open_image(lying).tobytes() == picture().tobytes()


def test_a_png_keeps_its_orientation_beside_a_broken_chunk():
    turned = Image.Exif()
    turned[0x0112] = 6
    text = chunk(b"tEXt", b"Comment\0made by hand")[:-4] + bytes(4)
    data = with_chunks(text, chunk(b"eXIf", turned.tobytes()[6:]))
    assert open_image(data).size == (40, 48)


def test_damage_to_what_makes_a_pngs_pixels_stays_damage():
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    text = chunk(b"tEXt", b"Comment\0made by hand")[:-4] + bytes(4)
    data = encoded(Image.fromarray(noise), "PNG")
    data = bytearray(data[:33] + text + data[33:])
    assert not refused(bytes(data))
    first, second = data.index(b"IDAT"), data.index(b"IDAT", data.index(b"IDAT") + 4)
    for at, name in ((first, b"iDAT"), (second, b"iDAT"), (first + 900, b"\0" * 4)):
        damaged = data.copy()
        damaged[at : at + 4] = name
        assert refused(bytes(damaged)), at


# GIF


def test_a_comment_that_lies_about_its_length():
    data, ((start, _),) = METADATA["GIF"](picture())
    for length in (1, 20, 200, 255):
        damaged = bytearray(data)
        damaged[start - 1] = length
        assert open_image(bytes(damaged)).tobytes() == open_image(data).tobytes(), length


# HEIF and AVIF


def test_an_item_of_a_broken_type_ends_no_process():
    """libheif's binding falls on a type that is no text."""
    data, _ = METADATA["HEIF"](picture())
    broken = data.replace(b"mime", b"mim\xce", 1)
    assert broken != data
    assert open_image(broken).tobytes() == open_image(data).tobytes()


@pytest.mark.parametrize("format", ["AVIF", "HEIF"])
def test_exif_that_is_none(format):
    data, spans = METADATA[format](picture())
    (start, end), _ = spans
    broken = data[:start] + b"?" * (end - start) + data[end:]
    assert open_image(broken).tobytes() == open_image(data).tobytes()


# WebP


@pytest.mark.parametrize("name", [b"ICCP", b"XMP "])
@pytest.mark.parametrize("size", [3, 0x7FFF, 0xFFFFFFFF])
def test_a_webp_keeps_its_orientation_beside_a_broken_chunk(name, size):
    turned = Image.Exif()
    turned[0x0112] = 6
    options = {"xmp": b"<x>by hand</x>", "icc_profile": bytes(80), "exif": turned.tobytes()}
    data = encoded(picture(size=(64, 48)), "WEBP", **options)
    at = data.index(name) + 4
    broken = data[:at] + size.to_bytes(4, "little") + data[at + 4 :]
    assert open_image(broken).tobytes() == open_image(data).tobytes()


def test_a_webp_whose_transparency_is_damaged_is_refused():
    image = picture(size=(64, 48))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = bytearray(encoded(image, "WEBP"))
    data[data.index(b"ALPH") + 7] = 1
    assert refused(bytes(data))


@pytest.mark.parametrize("name", [b"PLTE", b"tRNS"])
@pytest.mark.parametrize("at", range(4))
def test_a_png_whose_palettes_name_is_damaged_is_refused(name, at):
    data = bytearray(encoded(picture().quantize(8), "PNG", transparency=3))
    data[data.index(name) + at] ^= 1
    assert refused(bytes(data))


def test_another_frame_never_stands_for_a_broken_first_one():
    first, second = picture(0).quantize(8), picture(1).quantize(8)
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    broken = bytearray(data)
    width_high = data.index(b"\x2c\0\0\0\0") + 6
    broken[width_high] ^= 1
    assert refused(bytes(broken))


def test_pixels_that_spell_the_name_of_a_box_stay_as_they_are():
    data, _ = METADATA["HEIF"](picture())
    data = next(versions(data, "HEIF")).data
    pixels = b"\x5a\x01\x77\x09infe\x02, as pixels may spell it"
    data += (len(pixels) + 8).to_bytes(4) + b"mdat" + pixels
    (version,) = versions(data, "HEIF")
    assert version.data == data
