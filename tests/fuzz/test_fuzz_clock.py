"""A fuzzer with a clock: which file takes most of the time that it may take?

    VISIONFLOWS_TEST_FUZZ=600 VISIONFLOWS_TEST_SEED=1 pytest -s tests/fuzz/test_fuzz_clock.py

The seconds are shared by the targets. Each target makes hostile inputs from the seed, and says how
many CPU seconds one may take. Other readers of untrusted bytes are added to TARGETS.
"""

import contextlib
import os
import random
import resource
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from conftest import encoded, picture
from damaged_files import METADATA
from fuzzing import SECONDS

from visionflows.images import isolation
from visionflows.images.image_status import BadImage
from visionflows.images.open import pixels
from visionflows.images.time_budget import seconds

SEED = int(os.environ.get("VISIONFLOWS_TEST_SEED", "0"))
QUICK = 2.0  # seconds in the normal test suite
GROWN = 1 << 21  # bytes that a repeated piece may fill
MAX_PIXELS = 4_000_000  # of an image, so that many are tried


class Target(NamedTuple):
    """What makes inputs from a seed, what reads one, and the seconds that it may take."""

    make: Callable[[random.Random], bytes]
    read: Callable[[bytes], None]
    allowed: Callable[[bytes], float]


class Slowest(NamedTuple):
    """The input of a target that took the largest share of its time."""

    share: float = 0.0
    taken: float = 0.0
    data: bytes = b""


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """The bytes with a few changes: values, lengths, cuts, pieces of another, repeated pieces."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(max(len(made), 1))
        piece = bytes(made[at : at + rng.choice((2, 4, 12, 46, 200, 4000))])
        change = rng.randrange(6)
        if change == 0:
            made[at : at + 1] = rng.choice((b"\0", b"\xff", rng.randbytes(1)))
        elif change == 1:
            made[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff" * 4, b"\0\0\xff\xff", b"\x7f" * 4))
        elif change == 2:
            del made[at : at + rng.choice((1, 100, len(made)))]
        elif change == 3:
            start = rng.randrange(len(other))
            made[at:at] = other[start : start + rng.choice((10, 1000, 10**6))]
        else:  # what is slow is often long
            made[at:at] = piece * (rng.randrange(GROWN) // max(len(piece), 1))
    return bytes(made[: 2 * GROWN])


def _chunks(count: int) -> bytes:
    """A PNG with many empty chunks."""
    data = encoded(picture(), "PNG")
    empty = struct.pack(">I", 0) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
    return data[:33] + empty * count + data[33:]


def _scans(count: int) -> bytes:
    """A progressive JPEG that repeats its last scan."""
    data = encoded(picture(size=(800, 600)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


def _seeds() -> list[bytes]:
    kinds = [make(picture(size=(200, 150)))[0] for make in METADATA.values()]
    images = [picture(size=(200, 150), mode=mode) for mode in ("RGB", "CMYK", "L")]
    kinds += [encoded(image, "JPEG", progressive=way) for image in images for way in (0, 1)]
    kinds += [encoded(images[0], format) for format in ("JPEG2000", "BMP", "PPM", "TGA", "MPO")]
    kinds += [
        encoded(images[0], "TIFF", compression=name)
        for name in ("tiff_lzw", "jpeg", "zstd", "lzma", "packbits")
    ]
    frames = [picture(seed, (90, 60)) for seed in range(5)]
    for format in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        kinds.append(encoded(frames[0], format, save_all=True, append_images=frames[1:]))
    kinds += [_chunks(1000), _scans(20)]
    kinds.append(encoded(images[2].convert("1"), "TIFF", compression="group4"))
    return kinds


SEEDS = _seeds()


def _make_image(rng: random.Random) -> bytes:
    return mutate(rng, rng.choice(SEEDS), rng.choice(SEEDS))


def _read_image(data: bytes) -> None:
    with contextlib.suppress(BadImage):
        pixels(data, 64, "crop", MAX_PIXELS)


TARGETS = {"images": Target(_make_image, _read_image, lambda data: seconds(len(data)))}


def cpu_seconds() -> float:
    """The CPU seconds of this process and of its decoder processes."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [psutil.Process(process.pid).cpu_times() for process in isolation._idle]
    alive = sum(times.user + times.system for times in running)
    return time.process_time() + ended.ru_utime + ended.ru_stime + alive


def fuzz(target: Target, rng: random.Random, until: float) -> tuple[int, Slowest]:
    """How many inputs were read, and the slowest of them."""
    count, slowest = 0, Slowest()
    while time.monotonic() < until:
        data = target.make(rng)
        began = cpu_seconds()
        target.read(data)
        taken = cpu_seconds() - began
        count += 1
        slowest = max(slowest, Slowest(taken / target.allowed(data), taken, data))
    return count, slowest


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_takes_longer_than_it_may(name, tmp_path):
    target, until = TARGETS[name], time.monotonic() + (SECONDS / len(TARGETS) or QUICK)
    count, slowest = fuzz(target, random.Random(f"{SEED} {name}"), until)
    Path(tmp_path, "slowest").write_bytes(slowest.data)
    print(
        f"{name}: seed {SEED}, {count} inputs; the slowest took {slowest.taken:.2f} s, "
        f"{slowest.share:.0%} of its time, with {len(slowest.data):,} bytes"
    )
    assert slowest.share <= 1, tmp_path / "slowest"
