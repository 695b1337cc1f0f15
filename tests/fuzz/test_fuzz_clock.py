"""A fuzzer with a clock: which input takes most of the time that it may take?

    VISIONFLOWS_TEST_FUZZ=600 VISIONFLOWS_TEST_SEED=1 pytest -s tests/fuzz/test_fuzz_clock.py

The seconds are shared by the targets. Each target makes hostile inputs from the seed, and says how
many CPU seconds one may take.
"""

import contextlib
import os
import random
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import clock_inputs as inputs
import psutil
import pytest
from fuzzing import SECONDS
from model_files import Bucket

from visionflows.datasets.file_table import build_table
from visionflows.datasets.label_rows import label_rows
from visionflows.datasets.label_rules import parse_label_rule
from visionflows.datasets.unpack import unpack
from visionflows.errors import VisionflowsError
from visionflows.hashing import sha256_of
from visionflows.images import isolation
from visionflows.images.image_status import BadImage
from visionflows.images.keywords import read_keywords
from visionflows.images.open import pixels
from visionflows.images.time_budget import seconds
from visionflows.models.artifact import load_model, load_network, read_selfcheck
from visionflows.scoring.input_source import read_list
from visionflows.xml_elements import XmlError

SEED = int(os.environ.get("VISIONFLOWS_TEST_SEED", "0"))
QUICK = 2.0  # seconds in the normal test suite, shared by the targets
MAX_PIXELS = 4_000_000  # of an image, so that many are tried


class Target(NamedTuple):
    """The sound inputs, which are changed, and what reads one in a new folder."""

    sound: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], object]
    allowed: Callable[[bytes], float]  # CPU seconds


class Slowest(NamedTuple):
    """The input of a target that took the largest share of its time."""

    share: float = 0.0
    taken: float = 0.0
    data: bytes = b""


def _read_image(data: bytes, _: Path) -> None:
    pixels(data, 64, "crop", MAX_PIXELS)


def _unpack(data: bytes, folder: Path) -> None:
    (folder / "archive").write_bytes(data)
    unpack(folder / "archive", folder / "unpacked")


def _read_labels(data: bytes, folder: Path) -> None:
    for name, photo in inputs.photos().items():
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).write_bytes(photo)
    (folder / "labels.csv").write_bytes(data)
    build_table(folder / "data", f"csv:{folder}/labels.csv")


def _read_label_file(data: bytes, folder: Path) -> None:
    kind = (
        "coco" if data.startswith(b"{") else "cvat" if data.startswith(b"<annotations") else "voc"
    )
    (folder / "in").mkdir()
    (folder / "in/label.xml").write_bytes(data)
    location = folder / "in" if kind == "voc" else folder / "in/label.xml"
    label_rows(parse_label_rule(f"{kind}:{location}"), folder, [*inputs.photos()])


def _read_keywords(data: bytes, folder: Path) -> None:
    with contextlib.suppress(XmlError):
        read_keywords(data)


def _read_list(data: bytes, folder: Path) -> None:
    file = folder / ("list.csv" if data.startswith(b"path") else "list.txt")
    file.write_bytes(data)
    read_list(str(file))


def _load_model(data: bytes, _: Path) -> None:
    read_selfcheck(load_model(Bucket({**inputs.model(), "model.json": data})))


def _load_weights(data: bytes, _: Path) -> None:
    model_json = inputs.model()["model.json"].replace(
        sha256_of(inputs.model()["weights.safetensors"]).encode(), sha256_of(data).encode()
    )
    files = {**inputs.model(), "weights.safetensors": data, "model.json": model_json}
    load_network(load_model(Bucket(files)))


def _image_seconds(data: bytes) -> float:
    return seconds(len(data))


def _few_seconds(data: bytes) -> float:
    """A megabyte of text or headers a second, and 20,000 lines."""
    return 2 + len(data) / 1e6 + data.count(b"\n") / 20_000


TARGETS = {
    "images": Target(inputs.images, _read_image, _image_seconds),
    "archives": Target(inputs.archives, _unpack, _few_seconds),
    "labels": Target(inputs.tables, _read_labels, _few_seconds),
    "label files": Target(inputs.label_files, _read_label_file, _few_seconds),
    "keywords": Target(inputs.photos_with_keywords, _read_keywords, _image_seconds),
    "lists": Target(inputs.lists, _read_list, _few_seconds),
    "models": Target(inputs.model_jsons, _load_model, _few_seconds),
    "weights": Target(inputs.weights, _load_weights, _few_seconds),
}


def cpu_seconds() -> float:
    """The CPU seconds of this process and of its decoder processes."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [psutil.Process(process.pid).cpu_times() for process in isolation._idle]
    alive = sum(times.user + times.system for times in running)
    return time.process_time() + ended.ru_utime + ended.ru_stime + alive


def fuzz(target: Target, rng: random.Random, folder: Path, until: float) -> tuple[int, Slowest]:
    """How many inputs were read, and the slowest of them."""
    count, slowest, sound = 0, Slowest(), target.sound()
    while time.monotonic() < until:
        data = inputs.mutate(rng, rng.choice(sound), rng.choice(sound))
        folder.mkdir()
        began = cpu_seconds()
        with contextlib.suppress(VisionflowsError, BadImage):
            target.read(data, folder)
        taken = cpu_seconds() - began
        shutil.rmtree(folder)
        count += 1
        slowest = max(slowest, Slowest(taken / target.allowed(data), taken, data))
    return count, slowest


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.timeout(0)
def test_no_input_takes_longer_than_it_may(name, tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONFLOWS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "sound").mkdir()
    TARGETS[name].read(TARGETS[name].sound()[0], tmp_path / "sound")  # is not refused
    until = time.monotonic() + (SECONDS or QUICK) / len(TARGETS)
    rng = random.Random(f"{SEED} {name}")
    count, slowest = fuzz(TARGETS[name], rng, tmp_path / "inside", until)
    Path(tmp_path, "slowest").write_bytes(slowest.data)
    print(
        f"{name}: seed {SEED}, {count} inputs; the slowest took {slowest.taken:.2f} s, "
        f"{slowest.share:.0%} of its time, with {len(slowest.data):,} bytes"
    )
    assert slowest.share <= 1, tmp_path / "slowest"
