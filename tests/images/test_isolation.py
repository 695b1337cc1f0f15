"""Decoders that hang, grow or crash cost a row, and the next file is decoded."""

import multiprocessing
import struct
import threading

import numpy as np
import psutil
import pytest
from conftest import encoded, picture
from damaged_files import chunk
from image_files import refused
from PIL import Image

from visionflows.images import isolation, time_budget
from visionflows.images.open import open_image

START = "from visionflows.images import time_budget as budget, decoder_process as process\n"
HURRIED = "budget.BASE, budget.PER_MEGABYTE, budget.PER_MEGAPIXEL = 0.1, 0, 0\n"
SHORT = "process.limit_memory = lambda more, limit=process.limit_memory: limit(1 << 20)\n"


@pytest.fixture
def decoders(monkeypatch):
    """Start the decoder processes of this test with other limits."""

    def limited(limits: str) -> None:
        isolation.end_idle()
        monkeypatch.setattr(isolation, "PROGRAM", ("-P", "-c", START + limits + "process.main()"))

    yield limited
    isolation.end_idle()


def slow_jpeg2000() -> bytes:
    """A file of 500 bytes with 40,000 tiles, which take several seconds."""
    data = bytearray(encoded(picture(), "JPEG2000", no_jp2=True))
    struct.pack_into(">II", data, data.index(b"\xff\x51") + 6, 9000, 9000)
    return bytes(data)


def test_a_decoder_in_c_that_takes_too_long_is_ended(decoders):
    decoders(HURRIED)
    assert refused(slow_jpeg2000()) == ("unreadable", time_budget.TOOK_TOO_LONG)
    assert open_image(encoded(picture(), "JPEG2000")).size == (48, 40)


def test_memory_of_a_decoder_is_limited(decoders):
    decoders(SHORT)
    large = encoded(Image.new("RGB", (4000, 4000)), "TIFF", compression="tiff_lzw")
    assert refused(large) == ("too_large", "not enough memory to decode it")
    assert open_image(encoded(picture(), "TIFF")).size == (48, 40)


@pytest.mark.parametrize(
    "data",
    [
        encoded(picture(), "PNG")[:33] + chunk(b"teXt", b"") * 200_000,
        b"GIF89a\1\0\1\0\0\0\0" + b"!\xfe" + b"\1a" * 2_000_000,
        b"P2 3000 3000 255 " + b"7 " * 9_000_000,
    ],
)
def test_a_decoder_here_that_takes_too_long_is_ended(monkeypatch, data):
    for name, value in (("BASE", 0.1), ("PER_MEGABYTE", 0), ("PER_MEGAPIXEL", 0)):
        monkeypatch.setattr(time_budget, name, value)
    assert refused(data) == ("unreadable", time_budget.TOOK_TOO_LONG)


def test_threads_share_processes_and_all_of_them_end():
    isolation.end_idle()
    data = encoded(picture(), "TIFF")
    threads = [threading.Thread(target=open_image, args=(data,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    started = [*isolation._idle]
    assert 1 <= len(started) <= 3
    isolation.end_idle()
    assert not [each for each in started if psutil.pid_exists(each.pid)]


def test_an_image_is_the_same_in_a_process():
    deep = Image.fromarray((np.arange(20_000).reshape(100, 200) * 3).astype(np.uint16))
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "A Maker", 6
    opened = open_image(encoded(deep, "TIFF", exif=exif))
    assert opened.size == (100, 200)
    expected = (np.asarray(deep) / 257).round().astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(opened)[..., 0], np.rot90(expected, -1))


def test_a_forked_process_has_decoders_of_its_own():
    data = encoded(picture(), "TIFF")
    isolation.end_idle()
    open_image(data)
    (parents,) = isolation._idle
    answers = multiprocessing.SimpleQueue()

    def decode() -> None:
        answers.put((open_image(data).size, [each.pid for each in isolation._idle]))

    child = multiprocessing.get_context("fork").Process(target=decode, daemon=True)
    child.start()
    size, pids = answers.get()
    child.join()
    assert size == (48, 40)
    assert parents.pid not in pids
    assert open_image(data).size == (48, 40)


def test_a_process_that_was_ended_while_it_waited_is_replaced():
    data = encoded(picture(), "TIFF")
    open_image(data)
    isolation._idle[0].kill()
    isolation._idle[0].wait()
    assert open_image(data).size == (48, 40)
