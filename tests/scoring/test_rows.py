"""One row for every file, and the files of a result."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import CLASSES, encoded, picture, write_shapes
from scored_runs import bad_files, good_files, locked, rows_of

from visionflows.errors import StorageError, TooManyBadError
from visionflows.images.image_status import STATUSES
from visionflows.images.memory_limits import MemoryLimits
from visionflows.inference import make_engine
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.scoring.local_run import LocalRun, score_folder
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import open_storage
from visionflows.storage.name_encoding import encode_name


def test_one_row_for_every_file(trained, where, tmp_path):
    folder = tmp_path / "in"
    bad, good = bad_files(folder), good_files(folder)
    (folder / "notes.txt").write_text("not an image")
    if where is not str:  # rclone lists no dangling links; keys are UTF-8 on one line
        bad.pop("gone.jpg")
        for name in ("two\nlines.jpg", os.fsdecode(b"caf\xe9.jpg")):
            (folder / name).unlink()
            good.remove(name)
    settings = ScoreSettings(max_error_rate=1)
    run = score_folder(
        where(folder), "shapes", where(tmp_path / "out"), where(trained.store), settings
    )
    rows = {row["path"]: row for row in rows_of(tmp_path / "out")}
    assert list(rows) == sorted(rows)
    assert set(rows) == {encode_name(name) for name in [*bad, *good]}
    for name, status in bad.items():
        row = rows[name]
        assert (row["status"], row["label"], row["confidence"]) == (status, "", "")
        assert row["error"]
        assert not any(row[f"p_{label}"] for label in CLASSES)
    for name in good:
        row = rows[encode_name(name)]
        assert row["status"] == "ok", row
        assert row["label"] in CLASSES
        assert sum(float(row[f"p_{label}"]) for label in CLASSES) == pytest.approx(1, abs=1e-5)
    # The same image has the same row under each name.
    same = [rows[encode_name(name)]["p_circle"] for name in good if name.endswith("jpg")][1:]
    assert len(set(same)) == 1
    counts = run["counts"]
    assert counts["found"] == len(rows) == counts["ok"] + counts["failed"]
    assert counts["failed"] == len(bad)
    assert counts["ignored"] == 1
    assert set(counts["by_status"]) <= set(STATUSES)


def test_good_rows_among_bad_files_equal_those_of_a_clean_run(trained, where, tmp_path):
    clean = write_shapes(tmp_path / "clean", each=40, first_seed=2000)
    dirty = tmp_path / "dirty"
    shutil.copytree(clean, dirty)
    bad = bad_files(dirty / "circle")
    if where is not str:
        bad.pop("gone.jpg")  # rclone lists no dangling links
    store = where(trained.store)
    score_folder(where(clean), "shapes", where(tmp_path / "a"), store)
    score_folder(where(dirty), "shapes", where(tmp_path / "b"), store)
    assert len(bad) >= 5
    expected = (tmp_path / "a/predictions.csv").read_bytes().splitlines()
    lines = (tmp_path / "b/predictions.csv").read_bytes().splitlines()
    assert [line for line in lines if b",ok," in line or line in expected] == expected
    assert len(lines) == len(expected) + len(bad)


def test_a_file_that_disappears_after_the_listing_is_missing(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=4)
    settings = ScoreSettings(batch_size=2, workers=1)
    engine = make_engine(load_model(find_model("shapes", where(trained.store))), settings)
    run = LocalRun(where(folder), where(tmp_path / "out"), engine, settings)
    with locked(run) as scoring:
        left = [*scoring.pending_shards()]
        (folder / "stripes/0003.png").unlink()
        for shard in left:
            scoring.score(shard)
        run = scoring.merge()
    assert run.counts.by_status == {"missing": 1, "ok": 11}
    assert rows_of(tmp_path / "out")[-1]["status"] == "missing"


def test_a_file_without_permission_is_a_row(trained, tmp_path):
    folder = write_shapes(tmp_path / "in", each=2)
    closed = folder / "circle/0000.png"
    closed.chmod(0)
    if os.access(closed, os.R_OK):
        os.chmod(tmp_path, 0o755)
        status = _row_as_nobody(closed)
    else:
        score_folder(str(folder), "shapes", str(tmp_path / "out"), trained.store)
        status = rows_of(tmp_path / "out")[0]["status"]
    assert status == "unreadable"


def _row_as_nobody(path: Path) -> str:
    """The status for an unprivileged user: root can read every file, so a child drops root."""
    import multiprocessing

    from visionflows.inference.decoding import Decoder

    for folder in path.parents:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o055)

    def child(pipe):
        os.setuid(65534)
        decoded = Decoder(1, 32, "crop", MemoryLimits())(open_storage(path.parent), [path.name])
        pipe.send(decoded.rows[0].status)

    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
    process.start()
    process.join(30)
    return ours.recv()


def test_other_files_are_counted_by_extension(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=1)
    (folder / "saved.jpg_large").write_bytes(encoded(picture()))
    (folder / "no ending").write_bytes(encoded(picture(), "WEBP"))
    for name in ("notes.txt", "letter", "empty", "labels.csv"):
        (folder / name).write_bytes(b"" if name == "empty" else b"no picture")
    store = where(trained.store)
    run = score_folder(where(folder), "shapes", where(tmp_path / "out"), store)
    assert (run["counts"]["ok"], run["counts"]["ignored"]) == (5, 4)
    assert run["counts"]["ignored_by_ending"] == {"no extension": 2, ".txt": 1, ".csv": 1}
    report = (tmp_path / "out/report.html").read_text()
    assert "4 files with no image extension or content: 2 no extension, 1" in report
    again = score_folder(
        *(where(folder), "shapes", where(tmp_path / "out"), store),
        ScoreSettings(retry_failed=True),
    )
    assert again["counts"]["ignored_by_ending"] == run["counts"]["ignored_by_ending"]


def test_an_empty_folder_has_a_header_and_counts_of_zero(trained, where, tmp_path):
    (tmp_path / "in").mkdir()
    run = score_folder(
        where(tmp_path / "in"), "shapes", where(tmp_path / "out"), where(trained.store)
    )
    text = (tmp_path / "out/predictions.csv").read_bytes()
    assert text == b"path,status,label,confidence,error,p_circle,p_square,p_stripes\r\n"
    assert (run["counts"]["found"], run["counts"]["ok"], run["counts"]["failed"]) == (0, 0, 0)


def test_a_missing_input_and_an_unwritable_output_fail_before_any_work(trained, tmp_path):
    with pytest.raises(StorageError, match="no such folder"):
        score_folder(str(tmp_path / "nowhere"), "shapes", str(tmp_path / "out"), trained.store)
    (tmp_path / "in").mkdir()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        score_folder(str(tmp_path / "in"), "shapes", str(tmp_path / "file/out"), trained.store)


def test_an_output_inside_the_input_is_left_out_of_the_listing(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=2)
    output = folder / "scores"
    first = score_folder(where(folder), "shapes", where(output), where(trained.store))
    (output / "thumbnail.png").write_bytes(encoded(picture(1), "PNG"))
    second = score_folder(where(folder), "shapes", where(output), where(trained.store))
    assert first["counts"]["found"] == second["counts"]["found"] == 6


def test_predictions_are_rfc_4180_and_utf_8(trained, where, tmp_path):
    folder = tmp_path / "in"
    good_files(folder)
    score_folder(where(folder), "shapes", where(tmp_path / "out"), where(trained.store))
    data = (tmp_path / "out/predictions.csv").read_bytes()
    assert data.decode("utf-8")
    assert data.endswith(b"\r\n")
    rows = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    assert {len(row) for row in rows} == {5 + len(CLASSES)}


def test_failed_files_can_be_scored_again_from_failures_csv(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=9)
    bad = bad_files(folder / "bad, ones")
    if where is not str:
        bad.pop("gone.jpg")  # rclone lists no dangling links
    count = len(bad)
    with pytest.raises(TooManyBadError, match=rf"{count} of {27 + count} .*failures\.csv"):
        score_folder(where(folder), "shapes", where(tmp_path / "out"), where(trained.store))
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["status"] == "failed"
    assert len(rows_of(tmp_path / "out")) == 27 + count
    (folder / "bad, ones/empty.jpg").write_bytes(encoded(picture(1)))  # repaired
    failures = tmp_path / "out/failures.csv"
    again = score_folder(where(failures), "shapes", where(tmp_path / "again"), where(trained.store))
    assert {row["path"] for row in rows_of(tmp_path / "again")} == {f"bad, ones/{n}" for n in bad}
    assert again["counts"]["by_status"]["ok"] == 1
    assert again["status"] == "done"  # 5 of 6 failed, but fewer than 20 files do not fail a run
