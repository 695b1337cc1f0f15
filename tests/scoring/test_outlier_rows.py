"""Outliers in a scoring run: two columns or a rejected status, counts, and resume."""

import csv
import json
import shutil

import numpy as np
import pytest
from conftest import write_shapes
from PIL import Image
from scored_runs import bad_files, rows_of

from visionflows.errors import OtherRunError, SettingsError
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import open_storage

OUTLIERS = 12


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """60 shapes, twelve images of one colour or of noise, and a bad file of every kind."""
    folder = write_shapes(tmp_path_factory.mktemp("mixed") / "in", each=20, first_seed=9000)
    draws = np.random.default_rng(1)
    for at in range(OUTLIERS):
        colour = (255 - 5 * at, 0, 0) if at % 4 else (0, 255 - 5 * at, 0)
        pixels = draws.choice([0, 255], (40, 40, 3)) if at % 2 else np.full((40, 40, 3), colour)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"outlier{at}.png")
    bad_files(folder / "bad")
    return folder


def scored(mixed, output, store, **settings):
    options = {"device": "cpu", "max_error_rate": 1, "shard_size": 20} | settings
    return score_folder(str(mixed), "outlier-model", str(output), store, ScoreSettings(**options))


def test_outliers_are_flagged(outlier_store, mixed, tmp_path):
    run = scored(mixed, tmp_path / "out", outlier_store)
    rows = rows_of(tmp_path / "out")
    assert list(rows[0])[-2:] == ["outlier_score", "outlier"]
    seen = [row for row in rows if row["status"] == "ok"]
    assert all((float(row["outlier_score"]) > 1) == (row["outlier"] == "True") for row in seen)
    assert {row["outlier"] for row in rows if row["status"] != "ok"} == {""}
    flagged = {row["path"] for row in seen if row["outlier"] == "True"}
    assert 1 < len(flagged) < 60
    assert run["counts"]["flags"] == {"outlier": len(flagged)}
    assert run["counts"]["ok"] == 60 + OUTLIERS
    page = (tmp_path / "out/report.html").read_text()
    assert f"{len(flagged)} of {60 + OUTLIERS} images are unlike the training data" in page
    assert page.index("Outliers (out of distribution)</h2>") < page.index(
        '<h2 id="labels">Predicted labels</h2>'
    )


def test_the_outlier_score_does_not_depend_on_other_files(outlier_store, mixed, tmp_path):
    engine = make_engine(
        load_model(find_model("outlier-model", outlier_store)), EngineSettings(device="cpu")
    )
    names = sorted(path.name for path in mixed.glob("outlier*.png"))
    batch = [row for rows in engine.predict_batches(open_storage(mixed), [names]) for row in rows]
    separate = [
        row
        for rows in engine.predict_batches(open_storage(mixed), [[name] for name in names])
        for row in rows
    ]
    assert [row.outlier_score for row in separate] == [row.outlier_score for row in batch]
    assert {row.features is None for row in batch} == {True}


@pytest.mark.parametrize("settings", [{"precision": "bfloat16"}, {"engine": "torch"}])
def test_engines_agree_on_the_outlier_score(outlier_store, mixed, settings):
    model, names = (
        load_model(find_model("outlier-model", outlier_store)),
        sorted(path.name for path in mixed.glob("*.png")),
    )
    ours, theirs = (
        [
            row.outlier_score
            for rows in make_engine(model, EngineSettings(device="cpu", **some)).predict_batches(
                open_storage(mixed), [names]
            )
            for row in rows
        ]
        for some in ({"precision": "float32"}, settings)
    )
    near = 1e-4 if "engine" in settings else 0.1
    assert theirs == pytest.approx(ours, rel=near)


def test_rejected_outliers_have_no_label_and_are_not_failures(outlier_store, mixed, tmp_path):
    kept = rows_of_run(mixed, tmp_path / "kept", outlier_store)
    run = scored(mixed, tmp_path / "out", outlier_store, reject_outliers=True, top=2, exif=True)
    rows = {row["path"]: row for row in rows_of(tmp_path / "out")}
    outliers = [path for path, row in kept.items() if row["outlier"] == "True"]
    for path in outliers:
        row = rows[path]
        assert (row["status"], row["label"], row["confidence"]) == ("outlier", "", "")
        assert {row[name] for name in row if name.startswith(("p_", "top_"))} == {""}
        assert row["error"].startswith("an outlier: its outlier_score is ")
        assert (row["outlier_score"], row["outlier"]) == (kept[path]["outlier_score"], "True")
        assert row["width"] == "40"
    same = [path for path in kept if path not in outliers]
    assert [rows[path]["label"] for path in same] == [kept[path]["label"] for path in same]
    counts = run["counts"]
    assert counts["rejected"] == counts["by_status"]["outlier"] == len(outliers)
    assert counts["found"] == counts["ok"] + counts["failed"] + counts["rejected"]
    with (tmp_path / "out/failures.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == counts["failed"] == 6
    assert f"{len(outliers)} rejected as outliers" in (tmp_path / "out/report.html").read_text()


def rows_of_run(mixed, output, store, **settings):
    scored(mixed, output, store, **settings)
    return {row["path"]: row for row in rows_of(output)}


def test_a_run_with_only_outliers_does_not_fail(outlier_store, mixed, tmp_path):
    (tmp_path / "in").mkdir()
    rows = rows_of_run(mixed, tmp_path / "all", outlier_store)
    outliers = [path for path, row in rows.items() if row["outlier"] == "True"]
    for path in outliers:
        for copy in range(5):
            shutil.copy(mixed / path, tmp_path / f"in/{copy}-{path.replace('/', '-')}")
    settings = {"reject_outliers": True, "max_error_rate": 0}
    run = scored(tmp_path / "in", tmp_path / "out", outlier_store, **settings)
    assert run["status"] == "done"
    assert run["counts"]["rejected"] == run["counts"]["found"] == 5 * len(outliers)


def test_rejected_rows_are_reused_and_not_retried(outlier_store, mixed, tmp_path):
    first = scored(mixed, tmp_path / "out", outlier_store, reject_outliers=True)
    before = (tmp_path / "out/predictions.csv").read_bytes()
    for again in ({"only_new": True}, {"retry_failed": True}):
        run = scored(mixed, tmp_path / "out", outlier_store, reject_outliers=True, **again)
        assert (tmp_path / "out/predictions.csv").read_bytes() == before
        assert run["counts"]["rejected"] == first["counts"]["rejected"] > 0
        assert run["timings"]["forwarded"] == 0
    with pytest.raises(OtherRunError, match="reject_outliers"):
        scored(mixed, tmp_path / "out", outlier_store, retry_failed=True)


def test_outliers_are_for_review_at_any_confidence(outlier_store, mixed, tmp_path):
    model = load_model(find_model("outlier-model", outlier_store))
    checkpoint = shutil.copytree(model.storage.root, tmp_path / "checkpoint")
    lines = "".join(f"{at}.png,circle,circle,0.600000,0.600000\n" for at in range(200))
    (checkpoint / "validation.csv").write_text("path,label,predicted,confidence,raw\n" + lines)
    import pandas as pd

    from visionflows.models import registry

    info = model.info.model_copy(update={"files": {}})
    table = pd.DataFrame(
        columns=["path", "label", "group", "is_valid", "sha256", "status", "signature"]
    )
    registry.publish(checkpoint, tmp_path / "store", info, table)
    rows = rows_of_run(mixed, tmp_path / "out", tmp_path / "store", min_precision=0.9)
    assert list(next(iter(rows.values())))[-3:] == ["outlier_score", "outlier", "review"]
    assert {row["review"] for row in rows.values() if row["outlier"] == "True"} == {"True"}
    settings = {"min_precision": 0.9, "reject_outliers": True}
    run = scored(mixed, tmp_path / "rejected", tmp_path / "store", **settings)
    assert run["counts"]["flags"]["review"] >= run["counts"]["rejected"] > 0


def test_models_without_a_detector_have_no_outlier_columns(trained, mixed, tmp_path):
    settings = ScoreSettings(device="cpu", max_error_rate=1)
    run = score_folder(str(mixed), "shapes", str(tmp_path / "out"), trained.store, settings)
    assert list(rows_of(tmp_path / "out")[0])[-1].startswith("p_")
    assert run["counts"]["flags"] == {}
    plan = json.loads((tmp_path / "out/parts/plan.json").read_text())
    assert not {"outliers", "reject_outliers"} & {
        name for name, value in plan["settings"].items() if value is not None
    }
    rejecting = ScoreSettings(device="cpu", reject_outliers=True)
    with pytest.raises(SettingsError, match=r"reject_outliers: shapes@.* detects no outliers"):
        score_folder(str(mixed), "shapes", str(tmp_path / "new"), trained.store, rejecting)
