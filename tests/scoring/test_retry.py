"""--retry-failed: failed files are scored again and merged into the result."""

from pathlib import Path

import pytest
from conftest import encoded, picture, shape, write_shapes
from scored_runs import rows_of

from visionflows.errors import OtherRunError, RunError
from visionflows.scoring import local_run as running
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings

SMALL = ScoreSettings(shard_size=5, batch_size=5, max_error_rate=1)
RETRY = SMALL.model_copy(update={"retry_failed": True})


@pytest.fixture
def inbox_(tmp_path) -> Path:
    folder = write_shapes(tmp_path / "in", each=4, first_seed=800)
    for name in ("bad-1.png", "bad-2.png", "square/bad-3.png"):
        (folder / name).write_bytes(b"no picture")
    return folder


def statuses(output: Path) -> list[str]:
    return [row["path"] for row in rows_of(output) if row["status"] != "ok"]


def test_failed_files_are_scored_again_and_merged_repeatedly(trained, where, inbox_, tmp_path):
    arguments = (where(inbox_), "shapes", where(tmp_path / "out"), where(trained.store))
    score_folder(*arguments, SMALL)
    shape("circle", 5).save(inbox_ / "new.png")  # a retry leaves it for the next run
    left = ["bad-1.png", "bad-2.png", "square/bad-3.png"]
    for name, scored in (("bad-1.png", 3), ("square/bad-3.png", 2), ("bad-2.png", 1)):
        (inbox_ / name).write_bytes(encoded(picture(1), "PNG"))
        where(inbox_)  # wait until the server sees it
        run = score_folder(*arguments, RETRY)
        left.remove(name)
        assert statuses(tmp_path / "out") == left
        assert run["timings"]["scored"] == scored
        assert run["counts"]["found"] == 15
        assert (tmp_path / "out/failures.csv").exists() == bool(left)
    assert score_folder(*arguments, RETRY)["timings"]["scored"] == 0
    (inbox_ / "new.png").unlink()
    where(inbox_)
    score_folder(*arguments[:2], where(tmp_path / "fresh"), arguments[3], SMALL)
    fresh = (tmp_path / "fresh/predictions.csv").read_bytes()
    assert (tmp_path / "out/predictions.csv").read_bytes() == fresh
    again = SMALL.model_copy(update={"only_new": True})
    assert score_folder(*arguments, again)["timings"]["scored"] == 0  # the bytes of the first run


def test_a_killed_retry_resumes(trained, inbox_, tmp_path, monkeypatch):
    arguments = (str(inbox_), "shapes", str(tmp_path / "out"), trained.store)
    score_folder(*arguments, SMALL)
    before = (tmp_path / "out/predictions.csv").read_bytes()
    for name in statuses(tmp_path / "out"):
        (inbox_ / name).write_bytes(encoded(picture(1), "PNG"))
    real, written = running.parts.write_part, []

    def killed(*given):
        if written:
            raise KeyboardInterrupt
        written.append(real(*given))

    monkeypatch.setattr(running.parts, "write_part", killed)
    with pytest.raises(KeyboardInterrupt):
        score_folder(*arguments, RETRY)
    (tmp_path / "out/parts/part-00002.csv").write_bytes(b"torn")
    assert (tmp_path / "out/predictions.csv").read_bytes() == before
    monkeypatch.undo()
    run = score_folder(*arguments, RETRY)
    assert run["counts"]["ok"] == 15
    assert statuses(tmp_path / "out") == []


def test_a_retry_of_something_else_is_refused(trained, inbox_, tmp_path):
    arguments = (str(inbox_), "shapes", str(tmp_path / "out"), trained.store)
    with pytest.raises(RunError, match="no result to retry"):
        score_folder(*arguments, RETRY)
    score_folder(*arguments, SMALL)
    (tmp_path / "two").mkdir()
    with pytest.raises(OtherRunError, match="name that input"):
        score_folder(str(tmp_path / "two"), *arguments[1:], RETRY)
    with pytest.raises(OtherRunError, match="was scored with top 0, not 2"):
        score_folder(*arguments, RETRY.model_copy(update={"top": 2}))
    failures = str(tmp_path / "out/failures.csv")
    with pytest.raises(OtherRunError, match="with --retry-failed to score its failed files again"):
        score_folder(failures, *arguments[1:], SMALL)
    assert len(rows_of(tmp_path / "out")) == 15
    with (tmp_path / "out/predictions.csv").open("a") as file:
        file.write("x")
    with pytest.raises(RunError, match=r"predictions\.csv: missing, or changed since"):
        score_folder(*arguments, RETRY)


def test_a_retry_keeps_the_shards_of_its_result(trained, inbox_, tmp_path):
    arguments = (str(inbox_), "shapes", str(tmp_path / "out"), trained.store)
    score_folder(*arguments, SMALL)
    (inbox_ / "bad-1.png").write_bytes(encoded(picture(1), "PNG"))
    score_folder(*arguments, ScoreSettings(retry_failed=True, batch_size=5, max_error_rate=1))
    assert len(list((tmp_path / "out/parts").glob("*.csv"))) == 3
