"""Train, score and evaluate a model that gives a photo several labels."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from several_labels import OPTIONS, SOURCE, write_pairs

import visionflows as vf
from visionflows.api import TrainedModel
from visionflows.datasets.file_table import build_table
from visionflows.datasets.label_rules import parse_label_rule
from visionflows.errors import SettingsError
from visionflows.evaluation.label_decisions import calibrate_each
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import Model, load_model, read_files_csv
from visionflows.models.network import build
from visionflows.models.registry import find_model
from visionflows.storage.local import LocalStorage
from visionflows.training.fine_tune import fine_tune
from visionflows.training.selection import split_for_selection
from visionflows.training.settings import TrainSettings

pytest_plugins = ["several_labels"]
NAMES = ["circle", "square", "stripes"]


@pytest.fixture
def trained(pairs_model) -> TrainedModel:
    return pairs_model


@pytest.fixture
def store(trained) -> str:
    return trained.store


@pytest.fixture
def pairs(trained) -> Path:
    return Path(trained.store).with_name("data")


@pytest.fixture
def model(trained, store) -> Model:
    return load_model(find_model("pairs", store))


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def test_model_json_says_what_the_model_is(trained):
    info = trained.info
    assert info.multi_label
    assert info.classes == NAMES
    assert len(info.decision_thresholds) == len(info.calibration.scale) == 3
    assert info.training.metric == info.training.selection.metric == "mean_average_precision"
    assert trained.metrics.mean_average_precision > 0.7
    assert {row.class_ for row in trained.metrics.by_class if row.average_precision} == {*NAMES}


def test_images_without_labels_are_trained_on(trained):
    rows = read_files_csv(LocalStorage(trained.location))
    assert sum(row["label"] == "" for row in rows) == 8


def test_onnx_and_torch_give_the_same_labels(model, pairs):
    storage, names = LocalStorage(pairs), [f"images/circle-{one}-3.png" for one in NAMES]
    found = [
        [*make_engine(model, EngineSettings(engine=one)).predict_rows(storage, names)]
        for one in ("openvino", "torch")
    ]
    for one, other in zip(*found, strict=True):
        assert one.labels == other.labels
        assert one.label == other.label == -1
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)


def test_the_csv_has_the_labels_over_their_thresholds(trained, model, pairs, tmp_path, store):
    vf.score(pairs / "images", "pairs", tmp_path, store=store, top=2)
    rows, thresholds = rows_of(tmp_path), np.array(model.info.decision_thresholds)
    assert {row["status"] for row in rows} == {"ok"}
    for row in rows:
        values = np.array([float(row[f"p_{name}"]) for name in NAMES])
        given = [name for name, is_over in zip(NAMES, values >= thresholds, strict=True) if is_over]
        assert row["label"] == ";".join(given)
        assert float(row["confidence"]) == pytest.approx(
            np.maximum(values, 1 - values).min(), abs=2e-6
        )
        assert row["top_1"] == NAMES[values.argmax()]
    assert {row["label"] for row in rows} >= {"", "circle", "circle;square"}
    run = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert run["model"]["multi_label"] is True


def test_raw_probabilities_give_the_same_labels(trained, model, pairs, tmp_path, store):
    for name, raw in (("raw", True), ("calibrated", False)):
        vf.score(pairs / "images", "pairs", tmp_path / name, store=store, raw=raw)
    raw, calibrated = rows_of(tmp_path / "raw"), rows_of(tmp_path / "calibrated")
    assert [row["label"] for row in raw] == [row["label"] for row in calibrated]
    values, expected = (
        np.array([[float(row[f"p_{name}"]) for name in NAMES] for row in rows])
        for rows in (raw, calibrated)
    )
    assert calibrate_each(values, model.info.calibration) == pytest.approx(expected, abs=1e-4)
    assert not np.allclose(values, expected, atol=1e-3)


def test_a_row_needs_review_if_a_decision_is_not_certain(trained, pairs, tmp_path, store):
    found = vf.score(pairs / "images", "pairs", tmp_path, store=store, min_precision=0.6)
    (threshold,) = {*found.run.review.thresholds.values()}
    rows = rows_of(tmp_path)
    reviewed = [row["review"] == "True" for row in rows]
    assert reviewed == [threshold is None or float(row["confidence"]) < threshold for row in rows]
    validation = Path(trained.location, "validation.csv").read_text("utf-8")
    assert validation.splitlines()[0] == "path,label,predicted,confidence,raw"


def test_predict_has_the_labels(trained, pairs, store):
    (found,) = vf.predict(pairs / "images/circle-square-3.png", "pairs", store=store)
    assert found.label == ";".join(found.labels)
    certain = min(max(one, 1 - one) for one in found.probabilities.values())
    assert found.confidence == pytest.approx(certain)
    (none,) = vf.predict(pairs / "labels.csv", "pairs", store=store)
    assert (none.status, none.label, none.labels, none.confidence) == ("unreadable", "", (), None)


def test_evaluate_measures_new_images(trained, tmp_path, store):
    new = write_pairs(tmp_path / "new", each=3, first_seed=900, as_list=True)
    found = vf.evaluate("pairs", new, output=tmp_path / "out", store=store, labels="csv:labels.csv")
    assert found.counts == {"ok": 48}
    assert found.metrics.mean_average_precision > 0.7
    assert sum(one.count for one in found.bins) == 48 * 3
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "mean average precision" in page
    assert "Confused labels" in page
    first, *_ = csv.DictReader((tmp_path / "out/evaluation.csv").open(encoding="utf-8", newline=""))
    assert (first["path"], first["label"]) == ("images/--900.png", "")
    assert float(first["confidence"]) > 0


def test_the_report_has_no_confusion_matrix(trained):
    page = Path(trained.report).read_text("utf-8")
    assert "Confused labels" in page
    assert "often together" in page
    assert "Confusion matrix" not in page
    assert "skipped:" not in page


def test_fastai_opens_the_export(trained, pairs):
    from fastai.learner import load_learner

    learn = load_learner(Path(trained.location) / "export.pkl", cpu=True)
    labels, decided, probabilities = learn.predict(pairs / "images/circle-square-3.png")
    assert [*labels] == [name for name, has in zip(NAMES, decided.tolist(), strict=True) if has]
    assert len(probabilities) == 3


@pytest.mark.slow
def test_the_probe_is_one_vs_rest_and_auto_chooses(pairs, tmp_path):
    body = build("test_resnet", 2, 32)[0].model
    save_file(body.state_dict(), tmp_path / "weights.safetensors")
    options = OPTIONS | {"pretrained": str(tmp_path / "weights.safetensors"), "epochs": 1}
    table = build_table(pairs, parse_label_rule(SOURCE["labels"]))
    for recipe in ("probe", "auto"):
        settings = TrainSettings(**options, recipe=recipe)
        record = fine_tune(table, pairs, tmp_path / recipe, settings)
        assert len(record["thresholds"]) == 3
        assert record["settings"]["label_smoothing"] == 0
    assert record["selection"]["metric"] == "mean_average_precision"


def test_selection_images_have_every_class(pairs):
    table = build_table(pairs, parse_label_rule(SOURCE["labels"]))
    parts = split_for_selection(table, seed=1)
    for name in NAMES:
        has_label = parts.label.str.contains(name)
        assert 0.1 < parts.is_valid[has_label].mean() < 0.3


@pytest.mark.parametrize(
    "given, several, error",
    [
        ({"metric": "error_rate"}, True, "mean_average_precision, micro_f1 or macro_f1"),
        ({"metric": "mean_average_precision"}, False, "error_rate, balanced_accuracy or macro_f1"),
        ({"balance": "full"}, True, "balance full: with several labels"),
        ({"label_smoothing": 0.1}, True, "label_smoothing 0.1: with several labels"),
    ],
)
def test_settings_without_a_meaning_are_refused(given, several, error):
    settings = TrainSettings(**given)
    settings.resolved(multi_label=None)
    settings.resolved(not several)
    with pytest.raises(SettingsError, match=error):
        settings.resolved(several)


def test_killed_only_new_and_bucket_runs_write_the_same_bytes(pairs, trained, store, s3, tmp_path):
    source, folder = pairs / "images", tmp_path / "in"
    folder.mkdir()
    for file in sorted(source.iterdir())[:60]:
        (folder / file.name).write_bytes(file.read_bytes())
    vf.score(folder, "pairs", tmp_path / "new", store=store, shard_size=10, exif=True)
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    options = {"store": store, "shard_size": 10, "exif": True}
    vf.score(folder, "pairs", tmp_path / "whole", **options)
    whole = (tmp_path / "whole/predictions.csv").read_bytes()
    again = vf.score(folder, "pairs", tmp_path / "new", **options, only_new=True)
    assert again.counts.reused == 60
    assert (tmp_path / "new/predictions.csv").read_bytes() == whole
    (tmp_path / "whole/run.json").unlink()
    (tmp_path / "whole/parts/part-00003.json").unlink()  # killed between part and record
    resumed = vf.score(folder, "pairs", tmp_path / "whole", **options)
    assert resumed.run.timings.scored == 10
    assert (tmp_path / "whole/predictions.csv").read_bytes() == whole
    options["store"] = s3.uri(Path(store))
    vf.score(s3.uri(folder), "pairs", s3.uri(tmp_path / "s3"), **options)
    assert (tmp_path / "s3/predictions.csv").read_bytes() == whole


def test_label_issues_of_several_labels_are_searched(pairs_model):
    found = pairs_model.info.label_issues
    assert found is not None
    assert found.images > 0
    text = Path(pairs_model.location, "label_issues.csv").read_text("utf-8")
    assert len([*csv.DictReader(text.splitlines())]) == found.found
