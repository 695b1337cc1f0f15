"""Memory of decoding: estimated from the header, limited, and shared by all decoders."""

import io
import multiprocessing
import random
import resource
import subprocess
import sys
import threading
import time

import numpy as np
import pillow_heif
import pytest
from conftest import encoded, picture
from image_files import decoded_within
from PIL import Image

from visionflows.images import memory_limits, resize, to_rgb
from visionflows.images.image_status import BadImage
from visionflows.images.memory_limits import MemoryLimits, decoding_bytes
from visionflows.images.open import pixels

pillow_heif.register_heif_opener()
GIB = 1 << 30
# Prints how many bytes more the process had at its peak while each file was decoded.
PEAK = """
import sys
from PIL import Image
from visionflows.images.open import pixels

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

Image.init()
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    open("/proc/self/clear_refs", "w").write("5")  # resets the peak
    before = peak()
    pixels(data, 224, "crop", 100_000_000)
    print(peak() - before)
"""


def peaks(*paths) -> list[int]:
    command = [sys.executable, "-c", PEAK, *map(str, paths)]
    return [int(line) for line in subprocess.check_output(command).split()]


@pytest.fixture
def small_machine(monkeypatch):
    """Limit the memory of this machine."""
    return lambda size: monkeypatch.setattr(memory_limits, "memory_bytes", lambda: size)


def test_images_of_high_bit_depth_need_a_few_times_their_rgb(tmp_path):
    deep = Image.fromarray(np.zeros((5000, 5000), np.uint16))
    (tmp_path / "deep.png").write_bytes(encoded(deep, "PNG"))
    assert (tmp_path / "deep.png").stat().st_size < 60_000
    (taken,) = peaks(tmp_path / "deep.png")
    assert taken < 3.5 * 3 * 5000 * 5000, "716 MB in float64 at once"


SIDE = 1200
KINDS = {
    "a.jpg": ("RGB", {}),
    "p.jpg": ("RGB", {"progressive": True, "subsampling": 0}),
    "k.jpg": ("CMYK", {"progressive": True}),
    "a.png": ("RGBA", {}),
    "t.png": ("P", {"transparency": 3}),
    "a.gif": ("P", {}),
    "a.webp": ("RGB", {"lossless": True, "method": 0, "quality": 0}),
    "a.avif": ("RGB", {"subsampling": "4:4:4", "speed": 10}),
    "a.jp2": ("RGB", {}),
    "b.jp2": ("RGBA", {}),
    "a.tif": ("F", {}),
    "b.tif": ("CMYK", {"compression": "tiff_lzw", "tiffinfo": {278: SIDE}}),
    "a.bmp": ("RGB", {}),
    "a.heic": ("RGB", {"chroma": 444}),
}


@pytest.mark.slow
def test_the_estimate_is_an_upper_bound(tmp_path):
    noise = np.random.default_rng(0).integers(0, 40, (SIDE, SIDE, 3), np.uint8)
    for name, (mode, options) in KINDS.items():
        Image.fromarray(noise).convert(mode).save(tmp_path / name, **options)
    taken = dict(zip(KINDS, peaks(*(tmp_path / name for name in KINDS)), strict=True))
    for name, size in taken.items():
        with Image.open(tmp_path / name) as image:
            estimate = decoding_bytes(image)
        assert size < estimate + (12 << 20), name
        assert estimate <= memory_limits.COSTLIEST * SIDE**2, name


def test_the_largest_photos_of_phones_pass(small_machine):
    """200 megapixels as HEIC, on a machine of 8 GB."""
    small_machine(8 * GIB)
    with Image.open(io.BytesIO(encoded(Image.new("RGB", (16, 12)), "HEIF"))) as image:
        image._size = 16_320, 12_240
        with MemoryLimits().reserve_image(image):
            assert decoding_bytes(image) < 2.5e9


def test_images_over_the_limit_are_refused_before_decoding(small_machine):
    data = encoded(picture(size=(2000, 1000), mode="RGBA"), "PNG")
    small_machine(40_000_000)
    with pytest.raises(BadImage) as caught:
        decoded_within(MemoryLimits(), data[:-1000])  # truncated: decoding would fail
    assert (caught.value.status, caught.value.reason) == (
        "too_large",
        "2000×1000 pixels (PNG, RGBA) take 24 MB to decode, more than the limit of 20 MB",
    )
    small_machine(50_000_000)
    assert decoded_within(MemoryLimits(), data).size == (2000, 1000)


def test_machines_with_enough_memory_have_one_limit(small_machine):
    limits = []
    for size in (12 * GIB, 16 * GIB, 2048 * GIB):
        small_machine(size)
        limits.append(MemoryLimits().limits()["max_decoding_bytes"])
    assert limits == [5_600_000_000] * 3
    assert MemoryLimits(max_pixels=10**9).decoded == 28 * 10**9, "--max-pixels alone decides"


def test_every_image_within_max_pixels_passes_with_enough_memory():
    for name, (mode, options) in KINDS.items():
        format = Image.registered_extensions()[name[1:]]
        data = encoded(Image.new(mode, (40, 50)), format, **options)
        assert decoded_within(MemoryLimits(2_000), data).size == (40, 50), name


@pytest.mark.parametrize("kind", [threading, multiprocessing.get_context("fork")])
def test_images_decoded_at_once_stay_within_the_memory(kind):
    room = memory_limits._SharedMemory(10 * memory_limits.UNIT, kind)
    held, most, lock = [], [], threading.Lock()

    def decode(seed: int) -> None:
        for size in random.Random(seed).choices((0, 1, 2, 5, 9, 10, 40), k=20):
            with room.reserve(size * memory_limits.UNIT):
                with lock:
                    held.append(min(max(size, 1), 10))
                    most.append(sum(held))
                time.sleep(0.0005)
                with lock:
                    held.remove(min(max(size, 1), 10))

    threads = [threading.Thread(target=decode, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "two wait for one another"
    assert max(most) <= 10
    assert max(most) > 5, "they take turns only where they must"


def test_memory_of_a_failed_image_is_released(small_machine):
    small_machine(2 * memory_limits.UNIT)  # memory for one
    shared = MemoryLimits()
    for _ in range(3):
        with pytest.raises(BadImage):
            decoded_within(shared, encoded(picture(), "PNG")[:-40])
    assert decoded_within(shared, encoded(picture(), "PNG")).size == (48, 40)


def test_a_too_small_address_space_gives_a_row(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (9_000, 9_000)), "PNG"))
    code = (
        "import sys; from visionflows.images.open import open_image\n"
        "try: open_image(sys.argv[1])\nexcept Exception as error: print(error.status)"
    )

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))

    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    environment = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)}
    ran = subprocess.run(
        command, preexec_fn=limited, env=environment, stdout=subprocess.PIPE, check=True
    )
    assert ran.stdout.strip() == b"too_large"


@pytest.mark.parametrize("strip", [1, 100, 1 << 20])
def test_strips_show_nothing(monkeypatch, strip):
    deep = Image.fromarray(np.arange(70 * 31, dtype=np.float32).reshape(70, 31))
    whole = to_rgb.to_rgb(deep).tobytes()
    wide = {size: resize.resize_image(picture(size=size), 32, "pad") for size in ((90, 7), (7, 90))}
    monkeypatch.setattr(to_rgb, "STRIP", strip)
    monkeypatch.setattr(resize, "STRIP", strip)
    assert to_rgb.to_rgb(deep).tobytes() == whole
    for size, square in wide.items():
        assert resize.resize_image(picture(size=size), 32, "pad").tobytes() == square.tobytes()


def test_a_panorama_is_padded_without_decoding_its_square(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (15_000, 40), "red"), "PNG"))
    code = PEAK.replace('"crop"', '"pad"')
    taken = subprocess.check_output([sys.executable, "-c", code, str(tmp_path / "a.png")])
    assert int(taken) < 100_000_000, "the square has 225 million pixels"
    assert pixels((tmp_path / "a.png").read_bytes(), 8, "pad").tolist() == [[[255, 0, 0]] * 8] * 8


def test_an_extremely_long_line_is_too_large():
    line = encoded(Image.new("RGB", (1, 90_000)), "PNG")
    with pytest.raises(BadImage, match="reflected to 90000×90000 pixels") as caught:
        pixels(line, 8, "pad")
    assert caught.value.status == "too_large"
