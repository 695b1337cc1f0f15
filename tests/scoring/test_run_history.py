"""The record of a run: its new rows, counted once, and its drift."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CLASSES, shape
from scored_runs import locked

from visionflows.errors import TooManyBadError
from visionflows.inference import make_engine
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.monitoring.run_records import Audit, RunRecord, read_run_records, save_run_record
from visionflows.scoring.local_run import LocalRun, score_folder
from visionflows.scoring.schema import RunResult
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import open_storage

NEW = {"only_new": True, "shard_size": 20}


def add(folder: Path, first: int, each: int = 12, kinds: tuple[str, ...] = CLASSES) -> Path:
    """Add `each` new files of each kind to an inbox."""
    for kind in kinds:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for seed in range(first, first + each):
            shape(kind, seed).save(folder / kind / f"{seed:04d}.png")
    return folder


def scoring_function(trained, where, tmp_path) -> Callable[..., list[RunRecord]]:
    """A function that scores the inbox into `out` and returns the run records."""

    def score(source: str = "in", **settings) -> list[RunRecord]:
        inbox, output = where(tmp_path / source), where(tmp_path / "out")
        settings = ScoreSettings(**(NEW | settings))
        score_folder(inbox, "shapes", output, where(trained.store), settings)
        return read_run_records(open_storage(output))

    return score


@pytest.fixture
def score_inbox(trained, tmp_path) -> Callable[..., list[RunRecord]]:
    """The same, on the local disk."""
    return scoring_function(trained, str, tmp_path)


def test_a_record_has_the_new_rows(trained, where, tmp_path):
    folder, score_inbox = add(tmp_path / "in", 0), scoring_function(trained, where, tmp_path)
    (first,) = score_inbox()
    add(folder, 100, each=8)
    (folder / "broken.jpg").write_bytes(b"no picture")
    again, second = score_inbox(max_error_rate=1.0)
    assert again == first
    assert (first.histograms.total, second.histograms.total) == (36, 25)
    assert second.histograms.statuses == {"ok": 24, "unreadable": 1}
    assert second.histograms.endings == {".jpg": 1, ".png": 24}
    assert second.histograms.sizes["4"] == 1  # ten bytes
    assert sum(second.histograms.sizes.values()) == 25
    assert sum(second.histograms.confidence.values()) == second.histograms.labelled == 24
    rows = json.loads((tmp_path / "out/run.json").read_text())
    assert rows["counts"]["reused"] == 36
    assert second.drift.finding("labels").files == 36
    assert rows["drift"] == second.as_dict()["drift"]
    assert "<caption>New files of each run" in (tmp_path / "out/history.html").read_text()


def test_a_repeated_run_has_one_record(score_inbox, tmp_path):
    add(tmp_path / "in", 0)
    first = score_inbox()
    drift = json.loads((tmp_path / "out/run.json").read_text())["drift"]
    assert score_inbox() == first  # nothing is new
    assert json.loads((tmp_path / "out/run.json").read_text())["drift"] == drift
    (repeated,) = score_inbox(restart=True, only_new=False)  # everything is computed again
    assert (repeated.started, repeated.contents) == (first[0].started, first[0].contents)
    assert repeated.runs != first[0].runs
    (other,) = score_inbox(shard_size=7, restart=True, only_new=False)
    assert (other.histograms, other.contents) == (first[0].histograms, first[0].contents)


def test_a_killed_run_has_one_record_of_all_rows(trained, score_inbox, tmp_path):
    folder = add(tmp_path / "in", 0, each=20)
    settings = ScoreSettings(**NEW)
    engine = make_engine(load_model(find_model("shapes", trained.store)), settings)
    with locked(LocalRun(str(folder), str(tmp_path / "out"), engine, settings)) as run:
        for shard in [*run.pending_shards()][:2]:
            run.score(shard)  # the run is killed here
    (run_record,) = score_inbox()
    assert run_record.histograms.total == 60
    assert len(run_record.runs) == 2
    assert score_inbox() == [run_record]


def test_a_run_killed_between_record_and_result_writes_its_record_again(
    trained, score_inbox, tmp_path
):
    """Otherwise the warnings of that run would be lost."""
    folder, settings = add(tmp_path / "in", 0), ScoreSettings(**NEW)
    score_inbox()
    add(folder, 1000, each=100, kinds=("stripes",))
    engine = make_engine(load_model(find_model("shapes", trained.store)), settings)

    def run_until_record() -> RunRecord:
        with locked(LocalRun(str(folder), str(tmp_path / "out"), engine, settings)) as run:
            for shard in run.pending_shards():
                run.score(shard)
            result = run.merge()
            run.history.save()  # the run is killed here
            assert result.drift == run.history.record.drift
            return run.history.record

    first, again = run_until_record(), run_until_record()
    assert first.drifted
    shape("circle", 4321).save(folder / "stripes/1099.png")  # a file changes meanwhile
    settings = ScoreSettings(shard_size=20)
    changed = run_until_record()
    assert changed.contents != first.contents
    assert changed.histograms.total == first.histograms.total == 100
    assert [one.name for one in read_run_records(open_storage(tmp_path / "out"))][1:] == [
        changed.name
    ]
    again = run_until_record()
    run_record = score_inbox()[-1]
    assert run_record == again.model_copy(
        update={"ended": run_record.ended, "seconds": run_record.seconds}
    )
    assert [one.started for one in (first, again, run_record)] == [first.started] * 3
    run = RunResult.read((tmp_path / "out/run.json").read_bytes())
    assert (run.ended, run.drift) == (run_record.ended, again.drift)
    assert score_inbox()[-1] == run_record


def test_the_same_names_with_other_contents_are_another_record(score_inbox, tmp_path):
    folder = add(tmp_path / "in", 0)
    score_inbox(only_new=False)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        shape(path.parent.name, 900 + number).save(path)
    run_records = score_inbox(only_new=False)
    assert [run_record.histograms.total for run_record in run_records] == [36, 36]
    assert run_records[0].contents != run_records[1].contents


def test_a_retry_does_not_change_records(score_inbox, tmp_path):
    folder = add(tmp_path / "in", 0)
    (folder / "late.png").write_bytes(b"")
    run_records = score_inbox()
    assert run_records[0].histograms.statuses["unreadable"] == 1
    shape("circle", 77).save(folder / "late.png")
    assert score_inbox(retry_failed=True, only_new=False) == run_records
    assert score_inbox() == run_records
    add(folder, 300, each=3)
    assert [run_record.histograms.total for run_record in score_inbox()] == [37, 9]


def test_files_that_are_still_missing_are_not_new(score_inbox, tmp_path):
    paths = sorted(add(tmp_path / "in", 0).rglob("*.png"))
    names = [path.relative_to(tmp_path).as_posix() for path in paths]
    (tmp_path / "batch.txt").write_text("\n".join(names) + "\n")
    content = paths[7].read_bytes()
    paths[7].unlink()
    first = score_inbox("batch.txt")
    assert first[0].histograms.statuses == {"missing": 1, "ok": 35}
    assert score_inbox("batch.txt") == first
    paths[7].write_bytes(content)
    assert [run_record.histograms.statuses for run_record in score_inbox("batch.txt")][1:] == [
        {"ok": 1}
    ]
    paths[7].unlink()
    assert [run_record.histograms.statuses for run_record in score_inbox("batch.txt")][2:] == [
        {"missing": 1}
    ]


def test_a_record_has_the_settings_that_change_statistics(outlier_store, tmp_path):
    def settings(**given) -> list[str]:
        arguments = str(folder), "outlier-model", str(tmp_path / "out"), outlier_store
        score_folder(*arguments, ScoreSettings(restart=True, **given))
        return read_run_records(open_storage(tmp_path / "out"))[-1].settings

    folder = add(tmp_path / "in", 0)
    assert settings() == []
    assert settings(reject_outliers=True) == ["reject_outliers"]
    assert settings(reject_outliers=True) == ["reject_outliers"]
    kept = [run_record.settings for run_record in read_run_records(open_storage(tmp_path / "out"))]
    assert kept == [[], ["reject_outliers"]]  # none replaces another


def test_pixels_are_counted_with_exif(score_inbox, tmp_path):
    add(tmp_path / "in", 0)
    (run_record,) = score_inbox(exif=True)
    assert run_record.histograms.pixels == {"11": 36}  # 40 × 40 = 1,600


def test_drift_warns_in_the_log_the_report_and_run_json(score_inbox, tmp_path, caplog):
    folder = tmp_path / "in"
    for number in range(4):
        add(folder, 100 * number, each=10)
        assert not score_inbox()[-1].drifted
    assert "<strong>Drift.</strong>" not in (tmp_path / "out/report.html").read_text()
    add(folder, 1000, each=100, kinds=("stripes",))
    with caplog.at_level(logging.WARNING, "visionflows"):
        run_record = score_inbox()[-1]
    assert "labels" in run_record.drifted
    line = run_record.drift.warnings[0]
    assert line.startswith("labels: ")
    assert "in the 4 runs before" in line
    assert f"drift: {line}" in caplog.text
    run = RunResult.read((tmp_path / "out/run.json").read_bytes())
    assert run.status == "done"
    assert run.drift == run_record.drift
    page = (tmp_path / "out/report.html").read_text()
    assert page.index("<strong>Drift.</strong>") < page.index("<h2")
    assert line.split(";")[0] in (tmp_path / "out/history.html").read_text()


def test_a_failed_run_has_a_record(score_inbox, tmp_path):
    folder = add(tmp_path / "in", 0)
    score_inbox()
    for number in range(20):
        (folder / f"{number}.jpg").write_bytes(b"no picture")
    with pytest.raises(TooManyBadError):
        score_inbox()
    run_records = read_run_records(open_storage(tmp_path / "out"))
    assert [run_record.status for run_record in run_records] == ["done", "failed"]
    assert run_records[1].histograms.statuses == {"unreadable": 20}
    assert run_records[1].drifted == ["failures", "sizes", "endings"]


def test_an_invalid_record_is_logged_and_skipped(score_inbox, tmp_path, caplog):
    add(tmp_path / "in", 0)
    run_records = score_inbox()
    output = open_storage(tmp_path / "out")
    output.write("history/20260101T000000000Z-cut.json", b'{"schema_version": 1')
    assert read_run_records(output) == run_records
    assert "history/20260101T000000000Z-cut.json: not a run record: not JSON" in caplog.text


def test_an_audit_stays_in_its_record(score_inbox, tmp_path):
    folder = add(tmp_path / "in", 0)
    (run_record,) = score_inbox()
    audit = Audit(accuracy=0.95, low=0.88, high=0.98, images=60)
    audited = run_record.model_copy(update={"audit": audit})
    save_run_record(open_storage(tmp_path / "out"), audited)
    assert score_inbox(restart=True, only_new=False)[0].audit == audit
    add(folder, 300, each=3)
    assert score_inbox()[0].audit == audit
    assert "Audited accuracy" in (tmp_path / "out/history.html").read_text()
