"""JPEG: the pixels are Pillow's, damage to them is a row, and the work is bounded."""

import contextlib
import io
import time

import numpy as np
import pytest
from conftest import encoded, picture
from damaged_files import segment
from image_files import refused
from PIL import Image

from visionflows.images.decode_options import WHOLE, DecodeOptions
from visionflows.images.image_status import BadImage
from visionflows.images.jpeg import MAX_SCANS
from visionflows.images.open import open_image

SIZE = (333, 250)
CODED = {
    "baseline": {},
    "4:4:4": {"subsampling": "4:4:4"},
    "4:2:2": {"subsampling": "4:2:2"},
    "restarts": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
    "RGB": {"keep_rgb": True},
    "optimized": {"optimize": True, "quality": 30},
}


def photo(size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    """A picture with noise, so that its file has many bytes in its scans."""
    noise = np.random.default_rng(0).integers(-30, 30, (size[1], size[0], 3))
    noisy = (np.asarray(picture(size=size)) + noise).clip(0, 255).astype(np.uint8)
    return Image.fromarray(noisy).convert(mode)


def scan(data: bytes) -> int:
    """Where the first scan's coefficients begin."""
    return data.index(b"\xff\xda") + 14


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("side", [None, 60, 20])
def test_pixels_are_those_of_pillow(mode, coding, side):
    data = encoded(photo(mode=mode), "JPEG", **CODED[coding] if mode == "RGB" else {})
    with Image.open(io.BytesIO(data)) as image:
        if side:
            image.draft(None, (2 * side, 2 * side))
        expected = image.convert("RGB")
    opened = open_image(data, decode_options=DecodeOptions(side=side) if side else WHOLE)
    assert opened.size == expected.size
    assert opened.tobytes() == expected.tobytes()


def sound() -> dict[str, bytes]:
    """Files that viewers show whole."""
    data = encoded(photo(), "JPEG")
    frames = [photo((60, 40)), photo()]
    with_jfif = data.replace(b"JFIF\0\1\1", b"JFIF\0\2\1")
    video = np.random.default_rng(1).bytes(3_000_000).replace(b"ab", b"\xff\xda")
    return {
        "without its end": data[:-2],
        "cut in the end": data[:-1],
        "zeros behind": data + bytes(5000),
        "a video behind": data + video + b"\xff\xda" * 2 * MAX_SCANS,
        "an image behind": data + encoded(frames[0], "JPEG"),
        "several images": encoded(frames[1], "MPO", save_all=True, append_images=frames[:1]),
        "fill bytes": data[:2] + b"\xff" * 3000 + data[2:],
        "padding": data[:20] + bytes(3000) + data[20:],
        "a version of JFIF": with_jfif,
    }


@pytest.mark.parametrize("kind", sound())
def test_a_sound_file_is_opened(kind):
    whole = open_image(encoded(photo(), "JPEG"))
    assert open_image(sound()[kind]).tobytes() == whole.tobytes()


@pytest.mark.parametrize("coding", CODED)
def test_damaged_pixels_are_a_row_with_the_codecs_words(coding):
    data = encoded(photo(), "JPEG", **CODED[coding])
    rng, reasons = np.random.default_rng(7), []
    for _ in range(30):
        at = int(rng.integers(scan(data), len(data) - 3000))
        try:
            open_image(data[:at] + rng.bytes(2000) + data[at + 2000 :])
        except BadImage as bad:
            reasons.append(bad.reason)
    assert len(reasons) >= 27, "libjpeg does not notice all"
    words = ("damaged pixels: ", "JPEG: its last scans are missing")
    assert all(reason.startswith(words) for reason in reasons)


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9", bytes(3000), bytes(3000) + b"\xff\xd9"])
def test_a_jpeg_that_ends_early_is_a_row(kept, end):
    data = encoded(photo(), "JPEG")
    assert refused(data[: int(kept * len(data))] + end)[0] == "unreadable"


def progressive_scans() -> tuple[bytes, list[bytes]]:
    """A progressive JPEG without its scans, and its scans with their tables."""
    data = encoded(photo(), "JPEG", progressive=True)
    first, *others = data[:-2].split(b"\xff\xc4")[2:]
    head = data[: data.index(b"\xff\xc4" + first)]
    return head, [b"\xff\xc4" + each for each in (first, *others)]


def test_a_progressive_jpeg_without_its_last_scans_is_a_row():
    head, scans = progressive_scans()
    assert open_image(head + b"".join(scans) + b"\xff\xd9").size == SIZE
    for count in range(1, len(scans)):
        status, reason = refused(head + b"".join(scans[:count]) + b"\xff\xd9")
        assert (status, "scans are missing" in reason) == ("unreadable", True), count


def repeated(size: tuple[int, int], count: int, progressive: bool = True) -> bytes:
    """A JPEG that repeats its last scan."""
    data = encoded(Image.new("RGB", size, "red"), "JPEG", progressive=progressive)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


@pytest.mark.parametrize("progressive", [True, False])
def test_too_many_scans_are_refused_before_decoding(progressive):
    data = repeated((1600, 1200) if progressive else (16, 16), 80_000, progressive)
    began = time.process_time()
    status, reason = refused(data)
    assert time.process_time() - began < 1
    assert (status, reason[:6]) == ("unreadable", "JPEG: ")
    assert "scans, more than 300" in reason or "segments" in reason


def test_fewer_scans_are_allowed_for_more_pixels():
    data = repeated((100, 60), 80)
    assert refused(data)[1].startswith("damaged pixels: Inconsistent")
    at = data.index(b"\xff\xc2") + 5
    large = data[:at] + (6_000).to_bytes(2) + (10_000).to_bytes(2) + data[at + 4 :]
    assert "scans, more than 66 for 60,000,000 pixels" in refused(large)[1]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xe1\0\1" + b"\xff" * 8_000_000,
        b"\xff\xd8\xff\xe1\0\1" + b"\xff\xe1\0\4ab" * 1_200_000,
        b"\xff\xd8" + b"\xff\xe1\0\2" * 2_000_000,
        b"\xff\xd8\xff\xe0\0\2" + bytes(8_000_000),
        b"\xff\xd8\xff\xe0\0\2" + b"\0\xff" * 4_000_000,
        b"\xff\xd8" + b"\xff\xe1\xff\xff\xff\xd8\xff\xdb" * 800_000,
        b"\xff\xd8" + (b"\xff\xe0\0\0" + b"\xff\xc0\0\x0b" + bytes(9)) * 400_000,
    ],
)
def test_hostile_segments_are_refused_in_time(data):
    began = time.process_time()
    assert refused(data)[0] == "unreadable"
    with contextlib.suppress(BadImage):  # all pixels are there
        open_image(encoded(photo(), "JPEG")[:-2] + data[2:])
    assert time.process_time() - began < 2


def test_exif_in_many_segments_is_not_parsed():
    data = encoded(photo(), "JPEG")
    entries = b"".join(tag.to_bytes(2) + b"\0\1\0\0\xff\xf0\0\0\0\0" for tag in range(5000))
    block = b"MM\0*\0\0\0\x08" + (5000).to_bytes(2) + entries
    many = segment(0xE1, b"Exif\0\0" + block) + segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 50
    began = time.process_time()
    assert open_image(data[:2] + many + data[2:]).tobytes() == open_image(data).tobytes()
    assert time.process_time() - began < 1


@pytest.mark.parametrize("damage", [bytes(400), bytes(range(255, 55, -1)) * 2])
def test_damaged_jpeg_data_in_a_tiff_is_a_row(damage):
    data = encoded(picture(1, (200, 160)), "TIFF", compression="jpeg", quality=95)
    assert open_image(data).size == (200, 160)
    middle = len(data) // 2
    with pytest.raises(BadImage, match="damaged pixels: "):
        open_image(data[:middle] + damage + data[middle + 400 :])
