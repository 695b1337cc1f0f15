"""Evaluating a model on labelled images: scikit-learn's metrics, and what is left out."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from conftest import CLASSES, encoded, shape, write_shapes
from sklearn import metrics as reference

from flows.evaluate import evaluate
from visionflows.errors import ModelError, SettingsError


@pytest.fixture
def labelled(trained, tmp_path) -> Path:
    """New shapes, an unreadable file, an unknown class, and training images, one as a JPEG."""
    folder = write_shapes(tmp_path / "test", each=12, first_seed=5000)
    (folder / "circle/broken.png").write_bytes(b"no picture")
    (folder / "triangle").mkdir()
    shape("square", 1).save(folder / "triangle/0.png")
    files = csv.DictReader((Path(trained.storage) / "files.csv").open(newline="", encoding="utf-8"))
    known = [row for row in files if row["is_valid"] == "False"][:2]
    paths = [Path(trained.dataset) / row["path"] for row in known]
    shutil.copy(paths[0], folder / known[0]["label"] / "copied.png")
    return folder


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "evaluation.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_metrics_are_those_of_scikit_learn(trained, labelled, tmp_path):
    output = tmp_path / "out"
    result = evaluate("shapes", str(labelled), output=str(output), store=str(trained.store))
    rows = [row for row in rows_of(output) if row["status"] == "ok"]
    assert len(rows) == 36
    actual, predicted = ([row[name] for row in rows] for name in ("label", "predicted"))
    found = result["metrics"]
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(actual, predicted))
    balanced = reference.balanced_accuracy_score(actual, predicted)
    assert found["balanced_accuracy"] == pytest.approx(balanced)
    macro = reference.f1_score(actual, predicted, average="macro")
    assert found["macro_f1"] == pytest.approx(macro)
    for row, recall in zip(
        found["by_class"], reference.recall_score(actual, predicted, average=None), strict=True
    ):
        assert row["recall"] == pytest.approx(recall)
    counts = {
        (row["actual"], row["predicted"]): int(row["images"])
        for row in csv.DictReader((output / "confusion.csv").open(newline="", encoding="utf-8"))
    }
    matrix = reference.confusion_matrix(actual, predicted, labels=CLASSES)
    assert sum(counts.values()) == matrix.sum()
    assert counts["circle", "circle"] == matrix[0, 0]


def test_images_that_cannot_count_are_left_out_and_said_so(trained, labelled, tmp_path):
    output = tmp_path / "out"
    result = evaluate("shapes", str(labelled), output=str(output), store=str(trained.store))
    assert result["counts"] == {"ok": 36, "unreadable": 1, "trained_on": 1, "unknown_class": 1}
    by_status = {row["status"]: row for row in rows_of(output)}
    assert by_status["trained_on"]["path"].endswith("copied.png")
    assert by_status["unknown_class"]["label"] == "triangle"
    assert by_status["unreadable"]["error"]
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "1 image left out: the model was trained on them" in page
    assert json.loads((output / "evaluation.json").read_text())["counts"] == result["counts"]


def test_a_resaved_training_image_is_left_out_too(trained, tmp_path):
    folder = write_shapes(tmp_path / "test", each=3, first_seed=5000)
    files = csv.DictReader((Path(trained.storage) / "files.csv").open(newline="", encoding="utf-8"))
    known = next(row for row in files if row["is_valid"] == "False")
    from PIL import Image

    with Image.open(Path(trained.dataset) / known["path"]) as image:
        saved = encoded(image.convert("RGB"), "JPEG", quality=95)
    (folder / known["label"] / "saved.jpg").write_bytes(saved)
    output = tmp_path / "out"
    evaluate("shapes", str(folder), output=str(output), store=str(trained.store))
    (row,) = (row for row in rows_of(output) if row["path"].endswith("saved.jpg"))
    assert row["status"] == "trained_on"


def test_nothing_to_evaluate_is_an_error_of_one_line(trained, tmp_path):
    (tmp_path / "test/triangle").mkdir(parents=True)
    (tmp_path / "test/hexagon").mkdir()
    for at, name in enumerate(("triangle", "hexagon")):
        shape("square", 5000 + at).save(tmp_path / "test" / name / "0.png")
    with pytest.raises(ModelError, match=r"no image to evaluate .* on: 2 unknown_class"):
        evaluate("shapes", str(tmp_path / "test"), store=str(trained.store))
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("labels", ["colour", "regex:("])
def test_a_wrong_rule_fails_before_any_work(trained, tmp_path, labels):
    with pytest.raises(SettingsError, match="--labels"):
        evaluate("shapes", str(tmp_path), labels=labels, store=str(trained.store))
