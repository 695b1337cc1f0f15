"""A file that cannot be decoded is a row with its error: too large, no image, broken."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import encoded, picture
from damaged_files import METADATA
from PIL import Image

from visionflows import system
from visionflows.images import memory_limits
from visionflows.images.image_status import BadImage
from visionflows.images.memory_limits import MemoryLimits
from visionflows.images.open import read_image_file
from visionflows.inference import Engine, EngineSettings, make_engine
from visionflows.inference.cuda import decode_process_count
from visionflows.inference.decoding import Decoder
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.scoring.local_run import score_folder
from visionflows.storage import open_storage
from visionflows.storage.base import Entry
from visionflows.storage.local import LocalStorage
from visionflows.storage.s3 import bulk_read

TERABYTE = 1 << 40
GIB = 1 << 30


def engine_of(trained, **settings) -> Engine:
    settings = {"device": "cpu", "precision": "float32", "batch_size": 4, "workers": 2} | settings
    return make_engine(load_model(find_model("shapes", trained.store)), EngineSettings(**settings))


@pytest.fixture
def engine(trained) -> Engine:
    return engine_of(trained)


@pytest.fixture
def inbox(tmp_path) -> Path:
    """Eight images, and a sparse file of a terabyte between them."""
    (tmp_path / "inbox").mkdir()
    for number in range(8):
        (tmp_path / f"inbox/{number}.png").write_bytes(encoded(picture(number), "PNG"))
    with (tmp_path / "inbox/3a.jpg").open("wb") as file:
        file.truncate(TERABYTE)
    return tmp_path / "inbox"


def rows(engine: Engine, where, files: list) -> list[tuple[str, str, str]]:
    batches = [files[at : at + engine.batch_size] for at in range(0, len(files), engine.batch_size)]
    return [row[:3] for some in engine.predict_batches(where, batches) for row in some]


LISTED = pytest.mark.parametrize("listed", [True, False], ids=["as listed", "by name alone"])


@LISTED
def test_a_file_of_a_terabyte_is_a_row(engine, inbox, listed):
    here = open_storage(inbox)
    files = list(here.walk())
    found = rows(engine, here, files if listed else [file.name for file in files])
    assert [status for _, status, _ in found] == ["ok"] * 4 + ["too_large"] + ["ok"] * 4
    limit = engine.info.limits["max_file_bytes"]
    assert found[4][2] == f"1,099,511,627,776 bytes, more than the limit of {limit:,}"


def test_files_that_break_their_decoder_are_rows_among_others(tmp_path):
    sound = encoded(picture(size=(300, 200)), "JPEG")
    heif, _ = METADATA["HEIF"](picture())
    contents = {
        "crash.heic": heif.replace(b"mime", b"mim\xce", 1),
        "cut.jpg": sound[:3000] + b"\xff\xd9",
        "flipped.jpg": sound[:2000] + bytes(500) + sound[2500:],
        "scans.jpg": sound[:-2] + sound[sound.index(b"\xff\xda") :][:-2] * 400 + sound[-2:],
        "sound.heic": heif,
        "sound.jpg": sound,
        "sound.tif": encoded(picture(), "TIFF"),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    decoder = Decoder(8, 32, "crop", MemoryLimits())
    decoded = decoder(open_storage(tmp_path), [*contents])
    assert decoded.ok_count == 3
    found = {row.name: (row.status, row.error) for row in decoded.rows}
    assert [name for name, (status, _) in found.items() if status == "ok"] == [*contents][-3:]
    assert found["crash.heic"][1].startswith("its decoder crashed")
    assert found["scans.jpg"][1] == "JPEG: 401 scans, more than 300 for 60,000 pixels"
    assert "premature end of data segment" in found["cut.jpg"][1]
    assert found["flipped.jpg"][1].startswith("damaged pixels: ")


@LISTED
@pytest.mark.parametrize("asked", ["by the short way", "through boto3"])
def test_a_large_object_is_a_row_and_is_not_downloaded(
    engine, s3, inbox, monkeypatch, listed, asked
):
    """A tenth of a gigabyte: the test server reads a file to compute its ETag."""
    os.truncate(inbox / "3a.jpg", 100 << 20)
    if asked == "through boto3":
        monkeypatch.setattr(bulk_read, "_usable", False)
    engine.decoder.memory.encoded = engine.decoder.memory.ahead = 1 << 20
    here = open_storage(s3.uri(inbox))
    files = list(here.walk())
    found = rows(engine, here, files if listed else [file.name for file in files])
    assert [status for _, status, _ in found] == ["ok"] * 4 + ["too_large"] + ["ok"] * 4
    assert found[4][2] == "104,857,600 bytes, more than the limit of 1,048,576"


def test_a_run_records_its_limits(trained, inbox, tmp_path):
    run = score_folder(str(inbox), "shapes", str(tmp_path / "out"), str(trained.store))
    assert run["counts"]["by_status"] == {"ok": 8, "too_large": 1}
    assert run["limits"].keys() == {"max_pixels", "max_file_bytes", "max_decoding_bytes"}
    assert run["limits"]["max_file_bytes"] == min(system.memory_bytes() // 16, GIB)


def test_pipes_and_devices_behind_a_name_are_rows(engine, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    found = rows(engine, open_storage(tmp_path), ["pipe.jpg", "zero.jpg", "folder.jpg"])
    why = "cannot be read: a pipe or a device, not a file"
    assert found == [
        ("pipe.jpg", "unreadable", why),
        ("zero.jpg", "unreadable", why),
        ("folder.jpg", "unreadable", "cannot be read: Is a directory"),
    ]


def test_training_does_not_read_a_terabyte(inbox, tmp_path):
    with pytest.raises(BadImage, match=r"1,099,511,627,776 bytes, more than") as caught:
        read_image_file(inbox / "3a.jpg", memory_limits.MAX_FILE_BYTES)
    assert caught.value.status == "too_large"


def test_a_file_that_grows_while_it_is_read_stops_at_the_limit():
    (read,) = LocalStorage(Path("/proc/self")).read_many([Entry("maps", 0, "")], 100)
    assert isinstance(read, OSError), "its listed size is 0"
    (whole,) = LocalStorage(Path("/proc/self")).read_many([Entry("maps", 0, "")], 1 << 24)
    assert len(whole) > 100


def test_large_files_are_read_later_and_give_the_same_rows(engine, where, inbox):
    os.truncate(inbox / "3a.jpg", 1 << 20)
    here = open_storage(where(inbox))
    files = list(here.walk())
    before = rows(engine, here, files)
    engine.decoder.memory.ahead = 100
    assert all(file.size > 100 for file in files)
    assert rows(engine, here, files) == before


@pytest.mark.parametrize("error", [MemoryError, OverflowError, RecursionError, AssertionError])
def test_any_error_of_decoding_or_resizing_is_a_row(engine, inbox, monkeypatch, error):
    real = Image.Image.resize

    def resize(image, *options, **more):
        if image.getpixel((0, 0)) == first:
            raise error("two\nlines")
        return real(image, *options, **more)

    first = picture(5).getpixel((4, 0))  # for the cropped square
    monkeypatch.setattr(Image.Image, "resize", resize)
    found = rows(engine, open_storage(inbox), [f"{number}.png" for number in range(8)])
    bad = [row for row in found if row[1] != "ok"]
    assert [name for name, _, _ in bad] == ["5.png"]
    assert "\n" not in bad[0][2]


def test_running_out_of_memory_while_reading_is_a_row(engine, inbox, monkeypatch):
    monkeypatch.setattr(engine.decoder.memory, "ahead", TERABYTE)  # pretend there is this much
    (found,) = rows(engine, open_storage(inbox), ["3a.jpg"])
    assert found[1:] == ("too_large", "not enough memory to read it")


@pytest.fixture
def many_cores(monkeypatch) -> None:
    """96 cores and 16 GiB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(96)), raising=False)
    for module in (system, memory_limits):
        monkeypatch.setattr(module, "memory_bytes", lambda: 16 * GIB)


def test_little_memory_limits_the_number_of_decoders(many_cores, trained):
    engine = engine_of(trained, workers=None)
    assert engine.workers == 16
    shared = engine.decoder.memory
    assert shared.ahead * engine.batch_size * engine.workers <= shared.ahead_together == 2 * GIB
    assert decode_process_count(256, 224) == 16
    assert decode_process_count(256, 2048) == 1, "a batch has 3 GB"


class Counted(LocalStorage):
    """A folder that counts the batches being read."""

    begun = 0

    def read_many(self, entries, most=None):
        self.begun += 1
        return super().read_many(entries, most)


def test_prefetching_stops_at_its_memory_limit(engine, tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(), "PNG"))
    few, many = (
        [[Entry("a.png", size, "")] * engine.batch_size] * 30 for size in (4 << 20, 1 << 10)
    )
    engine.decoder.memory.ahead_together = 32 << 20
    begun = []
    for batches in (few, many):
        here = Counted(tmp_path)
        next(engine.predict_batches(here, batches))
        begun.append(here.begun)
    assert begun == [engine.workers + 1, max(2 * engine.workers, 32 // engine.batch_size) + 1]


def test_decoders_share_the_memory_of_their_engine(engine, tmp_path, monkeypatch):
    """Two images that each need more than half of it are decoded one after the other."""
    monkeypatch.setattr(memory_limits, "memory_bytes", lambda: 4 * memory_limits.UNIT)
    engine.decoder.memory = memory_limits.MemoryLimits()
    engine.decoder.memory.encoded = 64 << 20
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1500, 3), np.uint8)
    at_once, most, lock, real = [], [], threading.Lock(), Image.Image.resize
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(encoded(Image.fromarray(noise), "PNG", compress_level=1))

    def resize(image, *options, **more):
        with lock:
            at_once.append(1)
            most.append(len(at_once))
        time.sleep(0.2)
        made = real(image, *options, **more)
        with lock:
            at_once.pop()
        return made

    monkeypatch.setattr(Image.Image, "resize", resize)
    wide = [[name] for name in ("a.png", "b.png", "c.png")]
    found = [
        row.status for some in engine.predict_batches(open_storage(tmp_path), wide) for row in some
    ]
    assert (found, max(most)) == (["ok"] * 3, 1)
