"""The outlier detector: its images, its threshold, its false alarms."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from conftest import CLASSES, write_shapes

from visionflows.datasets.file_table import build_table
from visionflows.evaluation.calibration import holdout_half
from visionflows.evaluation.outliers import K
from visionflows.models.artifact import OUTLIERS, Model, load_model
from visionflows.models.registry import find_model
from visionflows.storage.local import LocalStorage
from visionflows.training.evidence import outlier_detector


def test_false_alarms_are_measured_on_held_out_images(outlier_store):
    found = load_model(find_model("outlier-model", outlier_store)).info.outliers
    assert (found.images, found.k, found.wanted) == (135, K, 0.02)
    assert found.fitted + found.tested == 135
    assert min(found.fitted, found.tested) >= 50
    assert found.false_alarms["float32"] <= 0.1  # of about 65: 2 % on average
    assert not found.why


def test_the_artifact_holds_the_bank(outlier_store):
    storage = find_model("outlier-model", outlier_store)
    info = json.loads(storage.read("model.json"))
    assert OUTLIERS in info["files"]
    place_of_bundle = load_model(storage)
    assert place_of_bundle.has(OUTLIERS)


def test_too_few_validation_images_are_a_reason(trained, evaluated):
    found = outlier_detector.fit_outlier_detector(evaluated, trained.table, trained.dataset)
    assert found == {"why": "18 validation images are too few to fit a threshold"}
    assert evaluated.info.updated(outliers=found).outliers.threshold is None
    assert not evaluated.storage.exists(OUTLIERS)


@pytest.mark.parametrize("most", [2, 5, 100])
def test_every_class_has_its_images_in_the_bank(tmp_path, monkeypatch, most):
    table = build_table(write_shapes(tmp_path / "in", each=8), "folder", valid_pct=0.25)
    trained = table[~table.is_valid.astype(bool)]
    monkeypatch.setattr(outlier_detector, "BANK_IMAGES", most)
    chosen = outlier_detector.sample_bank(trained)
    assert len(chosen) == min(max(most, 3), 18)
    assert {Path(path).parent.name for path in chosen} == set(CLASSES)
    assert chosen == outlier_detector.sample_bank(trained.sample(frac=1, random_state=1))


def test_half_of_the_validation_images_are_held_out(outlier_store):
    with (Path(f"{find_model('outlier-model', outlier_store)}") / "files.csv").open() as file:
        sha256s = [row["sha256"] for row in csv.DictReader(file) if row["is_valid"] == "True"]
    assert holdout_half(sha256s).sum() == pytest.approx(len(sha256s) / 2, abs=30)


def test_the_same_checkpoint_gives_the_same_detector(outlier_store, tmp_path):
    model = load_model(find_model("outlier-model", outlier_store))
    checkpoint = Path(shutil.copytree(model.storage.root, tmp_path / "checkpoint"))
    before = (checkpoint / OUTLIERS).read_bytes()
    dataset = write_shapes(tmp_path / "shapes", each=90, first_seed=5000)
    table = build_table(dataset, "folder", valid_pct=0.5)
    info = model.info.model_copy(update={"outliers": None})
    again = Model(LocalStorage(checkpoint), info)
    found = outlier_detector.fit_outlier_detector(again, table, dataset)
    found |= {"threshold": 0.85 * found["threshold"]}  # as in `outlier_store`
    assert info.updated(outliers=found).outliers == model.info.outliers
    assert (checkpoint / OUTLIERS).read_bytes() == before
