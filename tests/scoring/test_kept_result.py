"""A result is replaced only by a complete one of the same input; a missing input is an error."""

import json
import os
from pathlib import Path

import pytest
from conftest import encoded, picture, write_shapes
from scored_runs import locked, rows_of

from visionflows.errors import LockedError, ModelError, RunError, StorageError, TooManyBadError
from visionflows.inference import make_engine
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.scoring.local_run import LocalRun, score_folder
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import open_storage

SMALL = ScoreSettings(shard_size=6, batch_size=3)
RESULT = ("predictions.csv", "report.html", "review.html", "run.json")


def files_of(output: Path) -> dict[str, bytes]:
    """The files of a result, without history.html, which covers all runs."""
    files = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    return {name: data for name, data in files.items() if name != "history.html"}


def test_an_input_that_became_empty_is_refused(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=2)
    arguments = (where(folder), "shapes", where(tmp_path / "out"), where(trained.store))
    score_folder(*arguments, SMALL)
    before = files_of(tmp_path / "out")
    for path in folder.rglob("*.png"):
        path.rename(tmp_path / path.name)
    (folder / "note.txt").write_text("the share is not mounted")
    for settings in (SMALL, SMALL.model_copy(update={"only_new": True, "restart": True})):
        with pytest.raises(
            StorageError, match=r"holds no image, and .*out has rows.*--allow-empty"
        ):
            score_folder(*arguments, settings)
    assert files_of(tmp_path / "out") == before
    allowed = SMALL.model_copy(update={"allow_empty": True})
    assert score_folder(*arguments, allowed)["counts"]["found"] == 0
    assert rows_of(tmp_path / "out") == []


def test_a_missing_input_keeps_the_result(trained, tmp_path):
    folder = write_shapes(tmp_path / "in", each=2)
    arguments = (str(folder), "shapes", str(tmp_path / "out"), trained.store)
    score_folder(*arguments, SMALL)
    before = files_of(tmp_path / "out")
    folder.rename(tmp_path / "away")
    for settings in (SMALL, SMALL.model_copy(update={"retry_failed": True, "allow_empty": True})):
        with pytest.raises((StorageError, RunError), match=r"no such folder|is gone"):
            score_folder(*arguments, settings)
    assert files_of(tmp_path / "out") == before


@pytest.mark.parametrize("comes_back_as", ["nothing", "an empty folder"])
def test_a_root_that_disappears_during_a_run_stops_it_resumably(trained, tmp_path, comes_back_as):
    folder = write_shapes(tmp_path / "in", each=6)
    arguments = (str(folder), "shapes", str(tmp_path / "out"), trained.store)
    score_folder(*arguments, SMALL)
    before = files_of(tmp_path / "out")
    (folder / "a.png").write_bytes(encoded(picture(1), "PNG"))  # changes the job: a new run starts
    engine = make_engine(load_model(find_model("shapes", trained.store)), SMALL)
    with locked(LocalRun(arguments[0], arguments[2], engine, SMALL)) as scoring:
        first, *left = [*scoring.pending_shards()]
        scoring.score(first)
        folder.rename(tmp_path / "away")
        if comes_back_as == "an empty folder":
            os.mkdir(folder)
        with pytest.raises(RunError, match="is gone, or is another folder"):
            scoring.score(left[0])
    assert files_of(tmp_path / "out") == before
    if folder.exists():
        folder.rmdir()
    (tmp_path / "away").rename(folder)
    run = score_folder(*arguments, SMALL)
    assert (run["timings"]["scored"], run["counts"]["ok"]) == (13, 19)


def test_a_failed_run_keeps_the_last_good_result(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=7)
    arguments = (where(folder), "shapes", where(tmp_path / "out"), where(trained.store))
    score_folder(*arguments, SMALL)
    before = files_of(tmp_path / "out")
    for path in sorted(folder.rglob("*.png"))[:5]:
        path.write_bytes(b"no picture")
    where(folder)  # wait until the server sees it
    for _ in range(2):  # the second run has nothing left to score
        with pytest.raises(TooManyBadError, match=r"5 of 21 .*out/failed/failures\.csv"):
            score_folder(*arguments, SMALL)
        assert files_of(tmp_path / "out") == before
        failed = files_of(tmp_path / "out/failed")
        assert set(failed) == {*RESULT, "failures.csv"}
        assert json.loads(failed["run.json"])["status"] == "failed"
        assert len(rows_of(tmp_path / "out/failed")) == 21
    (folder / "extra.png").write_bytes(b"no picture")  # changes the job of the next run
    where(folder)
    with pytest.raises(TooManyBadError, match="6 of 22"):
        score_folder(*arguments, SMALL)
    for path in folder.rglob("*.png"):
        if path.read_bytes() == b"no picture":
            path.write_bytes(encoded(picture(1), "PNG"))
    where(folder)
    run = score_folder(*arguments, SMALL.model_copy(update={"retry_failed": True}))
    assert (run["counts"]["ok"], run["timings"]["scored"]) == (22, 6)
    assert len(rows_of(tmp_path / "out")) == 22
    assert not (tmp_path / "out/failed").exists()


def test_a_row_of_a_missing_file_is_not_reused(trained, tmp_path):
    """The file's version is unchanged, but a row with status missing is not reusable."""
    folder = write_shapes(tmp_path / "in", each=2)
    arguments = (str(folder), "shapes", str(tmp_path / "out"), trained.store)
    engine = make_engine(load_model(find_model("shapes", trained.store)), SMALL)
    with locked(LocalRun(arguments[0], arguments[2], engine, SMALL)) as scoring:
        (shard,) = scoring.pending_shards()
        hidden = folder / "circle/0000.png"
        hidden.rename(tmp_path / "away")
        scoring.score(shard)
        (tmp_path / "away").rename(hidden)
    assert score_folder(*arguments, SMALL)["counts"]["by_status"] == {"ok": 6}


def test_a_run_removes_the_temporary_files_of_a_killed_run(trained, tmp_path):
    folder = write_shapes(tmp_path / "in", each=1)
    for name in ("", "parts", "failed", "previous/000001"):
        (tmp_path / "out" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name / ".writing-0123").write_bytes(b"half")
    score_folder(str(folder), "shapes", str(tmp_path / "out"), trained.store, SMALL)
    left = [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".")]
    assert left == []


def test_a_run_waits_for_its_output_before_it_loads_a_model(trained, tmp_path, monkeypatch):
    folder = write_shapes(tmp_path / "in", each=1)
    monkeypatch.setattr(
        "visionflows.scoring.local_run.open_engine", lambda *_: pytest.fail("loaded")
    )
    arguments = (str(folder), "shapes", str(tmp_path / "out"), trained.store)
    with open_storage(tmp_path / "out").lock(".lock"), pytest.raises(LockedError):
        score_folder(*arguments, SMALL)
    with open_storage(tmp_path / "out").lock(".lock"), pytest.raises(ModelError):
        score_folder(arguments[0], "nothing", *arguments[2:], ScoreSettings(wait=600))
    assert os.listdir(tmp_path / "out") == []
    with pytest.raises(ModelError):
        score_folder(arguments[0], "nothing", str(tmp_path / "new"), trained.store, SMALL)
    monkeypatch.undo()
    with pytest.raises(StorageError, match="no such folder"):
        score_folder(
            str(tmp_path / "nowhere"), "shapes", str(tmp_path / "new"), trained.store, SMALL
        )
    assert not (tmp_path / "new").exists()
