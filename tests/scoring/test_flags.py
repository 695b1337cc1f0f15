"""Calibrated probabilities in the CSV, and the column `review`, in complete runs."""

import logging

import numpy as np
import pytest
from conftest import CLASSES
from scored_runs import locked, probabilities, rows_of
from versions import another, changed

from visionflows.evaluation.calibration import calibrate
from visionflows.inference import open_engine
from visionflows.inference.engine import EngineSettings
from visionflows.models.registry import find_model
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.predict import predict
from visionflows.scoring.schema import RunResult
from visionflows.scoring.settings import ScoreSettings

HEADER = "path,label,predicted,confidence,raw\n"


@pytest.fixture
def store(trained, tmp_path):
    """Two versions of the model: an overconfident one, and one without calibration."""
    line = "{0}-{1}.png,{0},{0},0.{2},0.99\n"
    sure = [line.format(name, at, 99 - at % 45) for name in CLASSES[:2] for at in range(200)]
    another(trained, tmp_path / "store", "1-sure", validation_csv=HEADER + "".join(sure))
    changed(tmp_path / "store", "1-sure", calibration={"temperature": 2.0})
    another(trained, tmp_path / "store", "0-uncalibrated")
    return tmp_path / "store"


def scored(store, inbox, output, version="1-sure", **settings):
    return RunResult.model_validate(
        score_folder(
            *(str(inbox), f"shapes@{version}", str(output), store),
            ScoreSettings(workers=1, **settings),
        ),
        strict=False,
    )


def test_probabilities_are_calibrated_unless_raw_ones_are_wanted(store, inbox, tmp_path):
    scored(store, inbox, tmp_path / "old", "0-uncalibrated")
    scored(store, inbox, tmp_path / "raw", raw=True)
    scored(store, inbox, tmp_path / "calibrated")
    old, raw, ours = (
        probabilities(rows_of(tmp_path / name)) for name in ("old", "raw", "calibrated")
    )
    assert (old == raw).all()
    assert np.abs(calibrate(raw, 2.0) - ours).max() < 2e-3  # of six decimals, one of 1e-6
    assert np.abs(raw - ours).max() > 0.05
    rows = rows_of(tmp_path / "calibrated")
    confidence = np.array([float(row["confidence"]) for row in rows])
    assert (confidence == ours.max(1)).all()
    engine = open_engine("shapes@1-sure", store, EngineSettings(workers=1, batch_size=1))
    (answer,) = predict([str(inbox / rows[0]["path"])], engine)
    assert [*answer.probabilities.values()] == pytest.approx(ours[0], abs=2e-6)


def test_rows_below_the_threshold_are_for_review(store, inbox, tmp_path, caplog):
    caplog.set_level(logging.INFO, "visionflows")
    (inbox_with_bad := tmp_path / "in").mkdir()
    for path in sorted(inbox.glob("*/*"))[:60]:
        (inbox_with_bad / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    (inbox_with_bad / "bad.png").write_bytes(b"no picture")
    run = scored(store, inbox_with_bad, tmp_path / "out", min_precision=0.9, max_error_rate=1)
    limits = run.review.thresholds
    assert limits == {"circle": 0.55, "square": 0.55, "stripes": None}
    rows = rows_of(tmp_path / "out")
    assert {row["review"] for row in rows if row["status"] != "ok"} == {""}
    for row in rows:
        if row["status"] == "ok":
            least = limits[row["label"]]
            wanted = least is None or float(row["confidence"]) < least
            assert row["review"] == str(wanted), row
    left = sum(row["review"] == "True" for row in rows)
    assert run.counts.flags == {"review": left}
    assert 0 < left < run.counts.ok
    assert "review: about 0.0 % of rows need review, by 400" in caplog.text
    assert f"<p>{left} rows" in (tmp_path / "out/report.html").read_text()


def test_flags_of_existing_parts_are_counted(store, inbox, tmp_path):
    whole = scored(store, inbox, tmp_path / "whole", min_precision=0.9, shard_size=20)
    engine = open_engine("shapes@1-sure", store, ScoreSettings(workers=1))
    from visionflows.scoring.local_run import LocalRun

    settings = ScoreSettings(workers=1, min_precision=0.9, shard_size=20)
    with locked(LocalRun(str(inbox), str(tmp_path / "out"), engine, settings)) as run:
        for _, shard in zip(range(2), run.pending_shards(), strict=False):
            run.score(shard)
    again = scored(store, inbox, tmp_path / "out", min_precision=0.9, shard_size=20)
    assert again.counts == whole.counts
    assert (tmp_path / "out/predictions.csv").read_bytes() == (
        tmp_path / "whole/predictions.csv"
    ).read_bytes()


def test_predictions_of_validation_images_are_published(trained):
    storage = find_model("shapes", trained.store)
    lines = storage.read("validation.csv").decode().splitlines()
    assert lines[0] + "\n" == HEADER
    valid = trained.table[trained.table.is_valid]
    rows = [line.split(",") for line in lines[1:]]
    assert sorted((row[0], row[1]) for row in rows) == sorted(
        zip(valid.path, valid.label, strict=True)
    )
    right = sum(row[1] == row[2] for row in rows) / len(rows)
    assert right == pytest.approx(trained.metrics["accuracy"])
