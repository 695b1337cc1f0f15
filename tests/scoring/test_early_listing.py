"""A large input is scored while it is still being listed."""

import json
import logging
import threading
import time
from pathlib import Path

import pytest
from conftest import shape, write_shapes
from scored_runs import job_of, rows_of

from visionflows.errors import OtherRunError, StorageError
from visionflows.scoring.disk_space import BYTES_PER_PROBABILITY, BYTES_PER_ROW, check_disk_space
from visionflows.scoring.input_source import Source
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.run import ScoringRun
from visionflows.scoring.schema import JobSettings
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import open_storage
from visionflows.storage.base import Entry

SETTINGS = ScoreSettings(shard_size=10, batch_size=5)
WAIT = 60.0  # timeout in seconds while the listing is paused


@pytest.fixture(autouse=True)
def start_scoring_after_10_files(monkeypatch):
    monkeypatch.setattr("visionflows.scoring.run.LISTED_FIRST", 10)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_shapes(tmp_path / "in", each=20)  # 60 files, 6 shards


def scored(trained, where, folder: Path, output: Path, settings=SETTINGS) -> dict:
    what = (where(folder), "shapes", where(output), where(trained.store))
    return score_folder(*what, settings)


def complete_result(trained, folder: Path, output: Path) -> bytes:
    """The CSV of a run that lists all files before it scores any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("visionflows.scoring.run.LISTED_FIRST", 10**9)
        score_folder(str(folder), "shapes", str(output), trained.store, SETTINGS)
    return (output / "predictions.csv").read_bytes()


def plan_of(output: Path) -> dict:
    return json.loads((output / "parts/plan.json").read_text())


def listing(monkeypatch, at: int, then) -> None:
    """Call `then` when `at` files are listed."""
    entries = Source.entries

    def gated(self):
        for number, entry in enumerate(entries(self)):
            if number == at:
                then()
            yield entry

    monkeypatch.setattr(Source, "entries", gated)


def wait_for_first_part(output: str) -> list[str]:
    """Wait for the first part, and return the names in `parts`."""
    until = time.monotonic() + WAIT
    while "part-00000.json" not in (names := open_storage(output).names("parts")):
        assert time.monotonic() < until, names
        time.sleep(0.05)
    return names


def fail_listing(monkeypatch, at: int, output: str) -> None:
    """Let the listing fail after `at` files, once there is a part."""

    def broken():
        wait_for_first_part(output)
        raise StorageError("the listing broke off")

    listing(monkeypatch, at, broken)


def test_shards_are_written_before_the_listing_ends(trained, where, folder, monkeypatch, tmp_path):
    expected, seen = complete_result(trained, folder, tmp_path / "whole"), []

    def look():
        wait_for_first_part(where(tmp_path / "out"))
        seen.append(plan_of(tmp_path / "out"))

    listing(monkeypatch, 55, look)
    run = scored(trained, where, folder, tmp_path / "out")
    assert [(plan["listing"], plan["files"]) for plan in seen] == [("", 0)]
    assert (tmp_path / "out/predictions.csv").read_bytes() == expected
    assert plan_of(tmp_path / "out") | {"input": ""} == plan_of(tmp_path / "whole") | {
        "input": "",
        "job": run["job"],
    }
    assert scored(trained, where, folder, tmp_path / "out")["timings"]["scored"] == 0


def test_a_run_killed_while_listing_continues_with_the_new_listing(
    trained, where, folder, monkeypatch, tmp_path
):
    with monkeypatch.context() as patch:
        fail_listing(patch, 55, where(tmp_path / "out"))
        with pytest.raises(StorageError, match="broke off"):
            scored(trained, where, folder, tmp_path / "out")
    there = {path.name for path in (tmp_path / "out/parts").glob("*.json")} - {"plan.json"}
    assert there <= {f"part-{number:05d}.json" for number in range(5)}
    assert there
    (folder / "stripes/0019.png").unlink()  # only the last shard changes
    run = scored(trained, where, folder, tmp_path / "out")
    assert run["timings"]["scored"] == 59 - 10 * len(there)
    expected = complete_result(trained, folder, tmp_path / "whole")
    assert (tmp_path / "out/predictions.csv").read_bytes() == expected


@pytest.mark.parametrize("settings", [SETTINGS, SETTINGS.model_copy(update={"only_new": True})])
def test_added_and_removed_files_change_their_shards(
    trained, where, folder, settings, monkeypatch, tmp_path
):
    with monkeypatch.context() as patch:
        fail_listing(patch, 59, where(tmp_path / "out"))
        with pytest.raises(StorageError):
            scored(trained, where, folder, tmp_path / "out")
    shape("circle", 99).save(folder / "circle/0000a.png")  # all names after it move by one
    for number in range(10):
        (folder / f"stripes/{number:04d}.png").unlink()
    run = scored(trained, where, folder, tmp_path / "out", settings)
    assert run["counts"]["found"] == 51
    expected = complete_result(trained, folder, tmp_path / "whole")
    assert (tmp_path / "out/predictions.csv").read_bytes() == expected
    parts = {path.name for path in (tmp_path / "out/parts").glob("part-*.csv")}
    assert parts == {f"part-{number:05d}.csv" for number in range(6)}


def test_another_job_is_refused_with_the_difference(trained, where, folder, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        fail_listing(patch, 55, where(tmp_path / "out"))
        with pytest.raises(StorageError):
            scored(trained, where, folder, tmp_path / "out")
    other = SETTINGS.model_copy(update={"shard_size": 20})
    with pytest.raises(OtherRunError, match="shard_size is 10, this one's 20"):
        scored(trained, where, folder, tmp_path / "out", other)


def test_escaped_names_are_rows_in_order(trained, where, folder, tmp_path):
    r"""S3 lists `\a` before `\x41`; as text the second is `\\x41`, and comes first."""
    for name in (r"zz\a.png", r"zz\x41.png"):
        shape("circle", 5).save(folder / name)
    expected = complete_result(trained, folder, tmp_path / "whole")
    run = scored(trained, where, folder, tmp_path / "out")
    assert (tmp_path / "out/predictions.csv").read_bytes() == expected
    assert run["counts"]["found"] == 62
    assert [row["path"] for row in rows_of(tmp_path / "out")][-2:] == [r"zz\\x41.png", r"zz\a.png"]


@pytest.mark.parametrize("name", ["stripes/0019.png", "notes.txt"])
def test_a_failed_run_stops_listing(trained, folder, name, monkeypatch, tmp_path):
    entries = Source.entries

    def without_end(self):
        yield from entries(self)
        while True:
            yield Entry(name, 1, "")

    def broken(*_):
        raise StorageError("the disk is full")

    monkeypatch.setattr(Source, "entries", without_end)
    monkeypatch.setattr("visionflows.scoring.parts.write_part", broken)
    with pytest.raises(StorageError, match="the disk is full"):
        scored(trained, str, folder, tmp_path / "out")
    for thread in threading.enumerate():
        if thread.name == "visionflows-listing":
            thread.join(WAIT)
            assert not thread.is_alive()


def test_a_listing_that_fails_early_keeps_existing_parts(
    trained, where, folder, monkeypatch, tmp_path
):
    with monkeypatch.context() as patch:
        fail_listing(patch, 59, where(tmp_path / "out"))
        with pytest.raises(StorageError):
            scored(trained, where, folder, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out/parts").glob("part-*")}
    looked, check = threading.Event(), ScoringRun._check_input

    def broken():
        looked.wait(WAIT)
        raise StorageError("the listing broke off")

    def late(self):
        looked.set()
        with pytest.raises(StorageError):
            self.listing.wait()
        check(self)

    with monkeypatch.context() as patch:
        listing(patch, 15, broken)
        patch.setattr(ScoringRun, "_check_input", late)
        with pytest.raises(StorageError, match="broke off"):
            scored(trained, where, folder, tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out/parts").glob("part-*")} == before


def test_ignored_and_skipped_files_are_counted(trained, folder, tmp_path):
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("hidden")
    run = scored(trained, str, folder, tmp_path / "out")
    assert run["timings"]["seconds_per_1000"]["list"] * 60 / 1000 < run["timings"]["seconds"]
    assert run["counts"]["ignored_by_ending"] == {".txt": 1}
    assert sum(run["skipped"].values()) == 1


@pytest.mark.parametrize("size, shards", [(60, "1 shard"), (30, "2 shards")])
def test_the_log_counts_images_and_shards(trained, folder, size, shards, caplog, tmp_path):
    caplog.set_level(logging.INFO, "visionflows")
    settings = SETTINGS.model_copy(update={"shard_size": size})
    scored(trained, str, folder, tmp_path / "out", settings)
    assert f"{folder}: 60 images in {shards}" in caplog.messages


def test_disk_space_is_needed_for_missing_parts_only(tmp_path, monkeypatch):
    output = open_storage(str(tmp_path))
    for number in range(100):
        output.write(f"parts/part-{number:05d}.csv", b"")
    settings = {"precision": "float32", "batch_size": 1, "max_pixels": 1, "top": 0}
    job = job_of(JobSettings(shard_size=1000, **settings))
    row = BYTES_PER_ROW + BYTES_PER_PROBABILITY * 2
    monkeypatch.setattr(type(output), "free_bytes", lambda self: (20 << 20) + row * 100_000)
    check_disk_space(output, job, 100_000)
    with pytest.raises(StorageError, match="free some space"):
        check_disk_space(output, job, 100_001)
