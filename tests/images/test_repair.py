"""JPEG and PNG with damaged metadata are opened; damaged pixels are an error and never a crash.

VISIONFLOWS_FUZZ=2000 tries 2,000 files per format; by default a few.
"""

import io
import os
import random
import time
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import encoded, picture
from damaged_files import METADATA, chunk, segment
from PIL import Image

from visionflows.images.image_status import BadImage
from visionflows.images.jpeg import read_header, strip_metadata
from visionflows.images.open import open_image
from visionflows.images.repair import strip_png

TRIES = int(os.environ.get("VISIONFLOWS_FUZZ", "40"))


def refused(data: bytes) -> bool:
    try:
        open_image(data)
    except BadImage:
        return True
    return False


def shape(image: Image.Image) -> np.ndarray:
    """The sorted pixel values, which do not depend on the orientation."""
    return np.sort(np.asarray(image).reshape(-1, 3), axis=0)


def damaged(format: str, data: bytes, spans: list) -> Iterator[bytes]:
    """The file with a few random bytes in its metadata."""
    rng = random.Random(format)
    for _ in range(TRIES):
        wrong = bytearray(data)
        for _ in range(rng.choice((1, 2, 8, 60))):
            start, end = rng.choice(spans)
            wrong[rng.randrange(start, end)] = rng.choice((0, 255, rng.randrange(256)))
        yield bytes(wrong)


REPAIRED = ("JPEG", "progressive", "PNG")


@pytest.mark.parametrize("format", REPAIRED)
def test_jpeg_and_png_with_damaged_metadata_are_opened(format):
    data, spans = METADATA[format](picture())
    whole = shape(open_image(data))
    for wrong in damaged(format, data, spans):
        np.testing.assert_array_equal(shape(open_image(wrong)), whole)


@pytest.mark.parametrize("format", sorted(METADATA.keys() - set(REPAIRED)))
def test_damaged_metadata_of_other_formats_is_an_image_or_a_row(format):
    data, spans = METADATA[format](picture())
    opened = sum(not refused(wrong) for wrong in damaged(format, data, spans))
    assert opened >= TRIES / 3


@pytest.mark.parametrize("format", METADATA)
def test_damaged_pixels_are_rows_where_they_can_be_noticed(format):
    """Half of the files are cut; a PNG has checksums, the others have none."""
    data, spans = METADATA[format](picture())
    rng = random.Random(format)
    begins = max(end for _, end in spans) if format not in ("TIFF", "AVIF", "HEIF", "WEBP") else 40
    rows = 0
    for _ in range(TRIES):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            damaged[rng.randrange(begins, len(data))] = rng.randrange(256)
        rows += refused(bytes(damaged[: rng.choice((len(data), rng.randrange(len(data))))]))
    assert rows >= TRIES * (1 if format == "PNG" else 0.5)


# JPEG


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("missing", [6, 100])
def test_a_jpeg_without_its_last_pixels_is_refused(options, missing):
    assert refused(encoded(picture(size=(333, 250)), "JPEG", **options)[:-missing])


@pytest.mark.parametrize("length", [2, 40, 300, 60_000])
def test_a_segment_with_a_wrong_length_never_shows_its_thumbnail(length):
    data, _ = METADATA["JPEG"](picture())
    at = data.index(b"Exif\0\0") - 2
    assert refused(data[:at] + length.to_bytes(2) + data[at + 2 :])


@pytest.mark.parametrize("at", range(4))
def test_a_second_image_never_replaces_a_broken_first_one(at):
    data = bytearray(encoded(picture(0), "MPO", save_all=True, append_images=[picture(1)]))
    data[data.index(b"\xff\xc0") + at] ^= 0x11
    assert refused(bytes(data))


def test_orientation_is_read_from_damaged_exif():
    turned = Image.Exif()
    turned[0x0112] = 6
    data = encoded(picture(), "JPEG", exif=turned)
    data = data[:2] + segment(0xE0, b"JFIF\0") + data[2:]  # shorter than declared
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(data))
    assert open_image(data).size == (40, 48)


def test_stripping_keeps_only_the_pixel_data():
    data, _ = METADATA["JPEG"](picture())
    bare = strip_metadata(data, read_header(data), ())
    assert b"Exif" not in bare
    assert open_image(bare).tobytes() == open_image(data).tobytes()


# PNG


def with_chunks(*chunks: bytes) -> bytes:
    data = encoded(picture(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"pHYs", b"gAMA", b"cHRM"])
@pytest.mark.parametrize("body", [b"", b"a", b"Comment\0made by hand", b"\0" * 40])
def test_ancillary_chunks_of_a_png_may_be_damaged(kind, body):
    sound = chunk(kind, body)
    for one in (sound, sound[:-4] + bytes(4)):
        assert open_image(with_chunks(one)).tobytes() == picture().tobytes()


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE", b"IDAT"])
def test_a_wrong_checksum_of_the_pixels_is_a_row(name):
    data = encoded(picture().quantize(16), "PNG")
    at = data.index(name)
    checksum = at + 4 + int.from_bytes(data[at - 4 : at])
    wrong = data[:checksum] + bytes([data[checksum] ^ 1]) + data[checksum + 1 :]
    with pytest.raises(BadImage, match=f"damaged pixels: PNG: wrong checksum of {name.decode()}"):
        open_image(wrong)


@pytest.mark.parametrize("length", [3, 500, 2**31])
def test_a_png_whose_chunk_has_a_wrong_length_is_refused(length):
    text = chunk(b"tEXt", b"Comment\0made by hand")
    assert refused(with_chunks(length.to_bytes(4) + text[4:]))


def test_a_png_keeps_its_orientation_beside_a_broken_chunk():
    turned = Image.Exif()
    turned[0x0112] = 6
    text = chunk(b"tEXt", b"Comment\0made by hand")[:-4] + bytes(4)
    data = with_chunks(text, chunk(b"eXIf", turned.tobytes()[6:]))
    assert open_image(data).size == (40, 48)


def test_damaged_pixel_chunks_of_a_png_are_an_error():
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


# Malicious files


@pytest.mark.parametrize("one", [chunk(b"tEXt", b""), chunk(b"tEXt", b"")[:-1] + b"?", bytes(12)])
def test_a_hostile_png_is_refused_in_time(one):
    began = time.process_time()
    assert strip_png(b"\x89PNG\r\n\x1a\n" + one * 800_000) is None
    assert time.process_time() - began < 5


def test_a_heif_item_of_an_invalid_type_costs_a_row_and_no_process():
    """pi_heif crashes on a type that is not text."""
    data, _ = METADATA["HEIF"](picture())
    broken = data.replace(b"mime", b"mim\xce", 1)
    assert broken != data
    with pytest.raises(BadImage, match="its decoder crashed"):
        open_image(broken)
    assert open_image(data).size == (48, 40)


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


def test_another_frame_never_replaces_a_broken_first_one():
    first, second = picture(0).quantize(8), picture(1).quantize(8)
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    broken = bytearray(data)
    width_high = data.index(b"\x2c\0\0\0\0") + 6
    broken[width_high] ^= 1
    assert refused(bytes(broken))
