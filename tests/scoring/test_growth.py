"""Inputs that grow: many shards, resumed lists, many classes, files that are replaced."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import write_shapes
from scored_runs import job_of, rows_of

from visionflows.inference.decoding import Row
from visionflows.inference.engine import Backend
from visionflows.scoring import parts, reusable_rows
from visionflows.scoring.listing import File, Listing
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.schema import JobSettings
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage.base import Entry
from visionflows.storage.local import LocalStorage

SETTINGS = JobSettings(precision="float32", batch_size=1, max_pixels=1, top=0, shard_size=1)


def test_parts_are_read_in_the_order_of_their_numbers(tmp_path, monkeypatch):
    output, read = LocalStorage(tmp_path), []
    numbers = (99_999, 100_000, 100_001, 10_000, 10_001)
    for number in numbers:
        output.write(f"parts/part-{number:05d}.json", b"{}")
    output.write("parts/plan.json", job_of(SETTINGS).plan())
    monkeypatch.setattr(parts, "read_parts", lambda output, names: read.extend(names) or ())
    found = reusable_rows.ReusableRows(output, output, job_of(SETTINGS), [])
    assert not [*found.find([])]
    assert read == [f"parts/part-{number:05d}" for number in sorted(numbers)]


def test_a_resumed_list_reads_no_file_again(trained, tmp_path, monkeypatch):
    folder = write_shapes(tmp_path / "in", each=3)
    names = [str(path.relative_to(folder)) for path in folder.rglob("*.png")]
    (folder / "list.txt").write_text("\n".join(names))
    scored = [str(folder / "list.txt"), "shapes", str(tmp_path / "out"), trained.store]
    settings = ScoreSettings(shard_size=2)
    score_folder(*scored, settings)
    before = (tmp_path / "out/predictions.csv").read_bytes()
    (tmp_path / "out/run.json").unlink()
    (tmp_path / "out/parts/part-00001.json").unlink()
    read, real, write_part = [], LocalStorage.read_many, parts.write_part

    def read_many(self, entries, max_bytes=None):
        entries = list(entries)
        names_of = [entry.name for entry in entries if self.root == folder]
        read.extend(name for name in names_of if name != "list.txt")
        return real(self, entries, max_bytes)

    def write(*arguments):  # afterwards the pages show some files
        monkeypatch.setattr(LocalStorage, "read_many", real)
        write_part(*arguments)

    monkeypatch.setattr(parts, "write_part", write)
    monkeypatch.setattr(LocalStorage, "read_many", read_many)
    assert score_folder(*scored, settings)["timings"]["scored"] == 2
    assert sorted(read) == sorted(names)[2:4]
    assert (tmp_path / "out/predictions.csv").read_bytes() == before


def test_a_part_of_many_classes_is_checked_in_little_memory(tmp_path):
    classes = tuple(f"c{number:04d}" for number in range(4000))
    job = job_of(SETTINGS).model_copy(update={"classes": classes})
    listing = Listing(100)
    listing.start(File(Entry(f"{number:02d}.png", 1, "v")) for number in range(40))
    (shard,) = listing.wait().shards
    files = listing.files(shard)
    values = np.eye(1, 4000, dtype=np.float32)[0]
    rows = [Row(f.entry.name, "ok", "", values, "0" * 64, label=0) for f in files]
    backend = Backend(device="cpu", precision="float32", kernel="none", versions={})
    parts.write_part(LocalStorage(tmp_path), job, shard, files, rows, [backend])
    (part,) = parts.read_parts(LocalStorage(tmp_path), [shard.part])
    tracemalloc.start()
    assert parts.belongs_to(part, job)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(part.data)


@pytest.mark.parametrize("settings", [ScoreSettings(only_new=True), ScoreSettings()])
def test_a_listed_file_that_became_something_else_is_a_row(trained, tmp_path, settings):
    folder = write_shapes(tmp_path / "in", each=2)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    (folder / "list.txt").write_text("\n".join(names))
    scored = [str(folder / "list.txt"), "shapes", str(tmp_path / "out"), trained.store]
    settings = settings.model_copy(update={"max_error_rate": 1.0})
    score_folder(*scored, settings)
    files = [folder / name for name in names]
    for file in files[:4]:
        file.unlink()
    os.mkfifo(files[0])
    files[1].symlink_to("/dev/zero")
    with files[2].open("wb") as file:
        file.truncate(20 << 30)  # of which the disk holds nothing
    files[3].symlink_to("nowhere")
    score_folder(*scored, settings)
    statuses = {row["path"]: row["status"] for row in rows_of(tmp_path / "out")}
    assert [statuses[name] for name in names] == [
        *("unreadable", "unreadable", "too_large", "missing", "ok", "ok")
    ]


def test_a_folder_that_cannot_be_listed_is_a_row(trained, tmp_path, monkeypatch):
    folder = write_shapes(tmp_path / "in", each=1)
    real = os.scandir

    def scandir(path):
        if Path(path) == folder / "square":
            raise OSError(116, "Stale file handle")
        return real(path)

    monkeypatch.setattr("visionflows.storage.walk._PAUSES", ())
    monkeypatch.setattr(os, "scandir", scandir)
    run = score_folder(str(folder), "shapes", str(tmp_path / "out"), trained.store)
    assert run["counts"]["by_status"] == {"ok": 2, "unreadable": 1}
    (row,) = [row for row in rows_of(tmp_path / "out") if row["status"] != "ok"]
    assert (row["path"], row["error"]) == (
        "square/",
        "cannot be read: Is a directory",
    )
    failures = [
        str(tmp_path / "out/failures.csv"),
        "shapes",
        str(tmp_path / "again"),
        trained.store,
    ]
    assert score_folder(*failures)["counts"]["by_status"] == {"unreadable": 1}
