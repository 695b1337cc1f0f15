"""Test images: in no step of a training, and evaluated once with the model that is published."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, SMALL, encoded, shape, write_shapes
from PIL import Image
from rich.console import Console
from sklearn import metrics as reference

import visionflows as vf
from flows.train import train
from visionflows.api import TrainedModel
from visionflows.cli.model_tables import model_page
from visionflows.datasets.fetch import Dataset
from visionflows.datasets.file_table import build_table
from visionflows.models.artifact import Model, load_model, read_files_csv
from visionflows.models.schema import ModelInfo
from visionflows.orchestration import artifacts
from visionflows.reports.rendering import describe
from visionflows.scoring.duplicates import DuplicateFinder
from visionflows.storage.local import LocalStorage
from visionflows.training.comparison import pair_predictions
from visionflows.training.evidence.test_images import evaluate_test, has_test_images
from visionflows.training.fine_tune import fine_tune
from visionflows.training.publish import build_model_info, publish_model
from visionflows.training.settings import TrainSettings

TINY = TrainSettings(**SMALL, epochs=2, lr=1e-2, batch_size=16, precision="float32")


def files_of(model: Path) -> list[dict[str, str]]:
    with (model / "files.csv").open(newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def write_split(folder: Path, **parts: int) -> Path:
    """Shapes in class folders of each part, so many of every class."""
    for at, (part, each) in enumerate(parts.items()):
        write_shapes(folder / part, each, first_seed=1000 * at)
    return folder


def check_figures(
    test: dict, model: str | Path, dataset: Path, paths: list[str], labels: list[str]
) -> None:
    """Compare `test` of model.json with scikit-learn on the model's own predictions."""
    rows = vf.predict([dataset / path for path in paths], str(model))
    predicted = [row.label for row in rows]
    found = test["metrics"]
    assert test["counts"]["ok"] == len(paths)
    right = reference.accuracy_score(labels, predicted)
    assert found["accuracy"] == pytest.approx(right)
    assert found["error_rate"] == pytest.approx(1 - right)
    low, high = found["interval"]
    assert low < right < high
    balanced = reference.balanced_accuracy_score(labels, predicted)
    assert found["balanced_accuracy"] == pytest.approx(balanced)
    macro = reference.f1_score(labels, predicted, average="macro")
    assert found["macro_f1"] == pytest.approx(macro)
    known = sorted(set(labels))
    recalls = reference.recall_score(labels, predicted, average=None, labels=known)
    by_class = {row["class"]: row for row in found["by_class"]}
    assert [*by_class] == [*CLASSES]
    assert [by_class[name]["recall"] for name in known] == pytest.approx(list(recalls))
    assert [row["count"] for row in by_class.values()] == [*map(labels.count, CLASSES)]
    confidence = np.array([row.confidence for row in rows])
    is_right = np.array(labels) == np.array(predicted)
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs((confidence - is_right)[bins == one].sum()) for one in range(15)]
    assert test["ece"] == pytest.approx(sum(gaps) / len(paths), abs=1e-6)


@pytest.fixture(scope="module")
def tested(tmp_path_factory) -> tuple[Path, Path]:
    """A dataset with train, valid and test folders, and the model of it.

    The test folder also has images of every other status.
    """
    root = tmp_path_factory.mktemp("tested")
    folder = write_split(root / "shapes", train=16, valid=6, test=8)
    test = folder / "test"
    shutil.copy(folder / "train/circle/0000.png", test / "circle/copied.png")
    with Image.open(folder / "train/square/0001.png") as image:
        saved = encoded(image.convert("RGB"), "JPEG", quality=95)
    (test / "square/saved.jpg").write_bytes(saved)
    (test / "circle/broken.png").write_bytes(b"\x89PNG but no more")
    (test / "triangle").mkdir()
    shape("square", 1).save(test / "triangle/0.png")
    shape("square", 2).save(test / "loose.png")
    return folder, Path(train(str(folder), "shapes", store=str(root / "store"), settings=TINY))


def info_of(trained, table) -> ModelInfo:
    """model.json of a training on a table, with the network of `trained`."""
    data = Dataset("shapes", trained.dataset, "shapes", None)
    values = (trained.record, trained.metrics)
    return build_model_info("shapes", "folder", 0.2, data, table, *values)


def model_of(trained, table) -> Model:
    """The same as a model."""
    return Model(LocalStorage(trained.storage), info_of(trained, table))


def listed_tests() -> tuple[list[str], list[str]]:
    """The paths and the labels of the test images that count."""
    paths = [f"test/{name}/{2000 + at:04d}.png" for name in CLASSES for at in range(8)]
    return paths, [path.split("/")[1] for path in paths]


def test_the_figures_of_a_test_folder_are_those_of_scikit_learn(tested):
    folder, model = tested
    test = json.loads((model / "model.json").read_text())["test"]
    check_figures(test, model, folder, *listed_tests())


def test_test_images_that_cannot_count_are_left_out_and_counted(tested):
    info = json.loads((tested[1] / "model.json").read_text())
    left_out = {"trained_on": 2, "unreadable": 1, "unknown_class": 1, "unlabelled": 1}
    assert info["test"]["counts"] == {"ok": 24, **left_out}
    assert info["classes"] == list(CLASSES)
    counts = {name: info["dataset"][name] for name in ("images", "train", "valid", "test")}
    assert counts == {"images": 95, "train": 48, "valid": 18, "test": 26}
    assert info["dataset"]["skipped"] == 3
    assert info["split"] == {"given_by": "folders"}


def test_test_images_of_trained_groups_are_left_out(trained, tmp_path):
    folder = write_split(tmp_path / "shapes", train=10, test=12)
    table = build_table(folder, "folder", group=r"regex:(\d\d)\.png$")
    of_training = {*table.group[table.status == "ok"]}
    tests = table[table.status == "test"]
    expected = int(tests.group.isin(of_training).sum())
    assert 0 < expected < len(tests)
    found = evaluate_test(model_of(trained, table), table, folder)
    assert found["counts"]["same_group"] == expected
    assert found["counts"].get("ok", 0) == len(tests) - expected


def test_test_images_change_no_weight(tested, tmp_path):
    """A training without them, and with a folder of unlabelled ones, gives the same weights."""
    dataset, model = tested
    folder = tmp_path / "shapes"
    shutil.copytree(dataset, folder, ignore=shutil.ignore_patterns("test"))
    (folder / "test1").mkdir()
    (folder / "test1/1.png").write_bytes(b"\x89PNG that is never opened")
    table = build_table(folder, "folder")
    assert not has_test_images(table)
    assert [*table.status[table.is_test]] == ["unlabelled"]
    fine_tune(table, folder, tmp_path / "checkpoint", TINY)
    weights = (tmp_path / "checkpoint/weights.safetensors").read_bytes()
    assert weights == (model / "weights.safetensors").read_bytes()


def test_without_test_images_nothing_is_written_of_them(trained, tmp_path):
    checkpoint = Path(shutil.copytree(trained.store.parent / "checkpoint", tmp_path / "checkpoint"))
    info = info_of(trained, trained.table)
    model = Path(publish_model(checkpoint, str(tmp_path / "store"), info, trained.table, ""))
    written = json.loads((model / "model.json").read_text())
    assert "test" not in written
    assert written["dataset"].keys() == {
        *("name", "source", "sha256", "fingerprint", "images", "train", "valid", "skipped"),
    }
    assert written["split"] == {"seed": 42, "valid_pct": 0.2}
    assert (
        (model / "files.csv")
        .read_bytes()
        .startswith(b"path,label,group,is_valid,sha256,signature,status\r\n")
    )
    page = (model / "report.html").read_text()
    assert 'id="test"' not in page
    assert "<dt>split</dt><dd>seed 42, validation share 0.2, stratified; near" in page


def test_files_csv_lists_test_images_and_no_reader_takes_them_for_trained_on(tested, tmp_path):
    folder, model = tested
    rows = files_of(model)
    tests = [row for row in rows if row["status"] == "test"]
    assert len(rows) == 48 + 18 + 26
    assert {row["is_valid"] for row in tests} == {"False"}
    assert all(len(row["sha256"]) == 64 for row in tests)
    loaded = load_model(LocalStorage(model))
    known = {row["path"] for row in read_files_csv(loaded.files)}
    assert known == {row["path"] for row in rows} - {row["path"] for row in tests}

    finder = DuplicateFinder(("path", "status", "seen_in_training", "duplicate_of"), loaded)
    row = tests[5]
    finder.add([[row["path"], "ok", "", row["signature"]]], [row["sha256"]])
    assert finder.counts().seen_in_training == 0

    result = vf.evaluate(str(model), folder, output=tmp_path, store=folder.parent / "store")
    evaluated = csv.DictReader((tmp_path / "evaluation.csv").open(newline="", encoding="utf-8"))
    paths = {one["path"] for one in evaluated if one["status"] == "ok"}
    assert paths == {*listed_tests()[0]} | {
        one["path"] for one in rows if one["is_valid"] == "True"
    }
    assert result.counts["trained_on"] == 48 + 2

    # Were test images trained on or validated on, fewer or more images were compared.
    found = pair_predictions("shapes", "shapes", folder, folder.parent / "store")
    assert {*found.rows.index} <= {one["path"] for one in rows if one["is_valid"] == "True"}
    assert found.images > 0


def test_a_learner_of_the_model_has_no_test_images(tested):
    folder, model = tested
    trained = TrainedModel(
        str(model), str(folder.parent / "store"), load_model(LocalStorage(model)).info, TINY
    )
    learner = trained.learner
    assert (len(learner.dls.train_ds), len(learner.dls.valid_ds)) == (48, 18)


def test_the_report_and_the_summary_have_the_test_images(tested, monkeypatch):
    _, model = tested
    info = load_model(LocalStorage(model)).info
    figure = f"error rate {info.test.metrics.error_rate:.4f}"
    page = (model / "report.html").read_text()
    assert '<h2 id="test">Test images</h2>' in page
    assert figure.capitalize() in page
    assert "2 because the model was trained on them or on near-duplicates" in page
    assert "<dt>split</dt><dd>given by the folders</dd>" in page
    console = Console(file=io.StringIO(), width=300)
    console.print(*model_page(info, [], str(model)))
    assert figure in console.file.getvalue()
    created = {}
    monkeypatch.setattr(
        artifacts, "_create", lambda kind, content, key, description: created.update({key: content})
    )
    artifacts.create_training_summary(info, str(model))
    assert f"Test images: {figure}" in created["train-summary"].replace("\\", "")


def test_beside_a_test_folder_only_the_split_of_the_rest_is_drawn(trained, tmp_path, caplog):
    folder = write_split(tmp_path / "shapes", train=10, test=5)
    (folder / "test/square").rename(folder / "test/circles")  # a class that is in no other part
    table = build_table(folder, "folder")
    assert table[table.status == "ok"].is_valid.sum() == 6
    caplog.set_level("INFO", "visionflows")
    found = evaluate_test(model_of(trained, table), table, folder)
    assert found["counts"] == {"ok": 10, "unknown_class": 5}
    tests = table[table.status == "test"]
    check_figures(found, trained.storage, folder, [*tests.path], [*tests.label])
    accuracy = found["metrics"]["accuracy"]
    assert f"test: error rate {1 - accuracy:.4f}, accuracy {accuracy:.4f} (95 %" in caplog.text
    assert "on 10 images" in caplog.text
    assert info_of(trained, table).as_dict()["split"] == {"seed": 42, "valid_pct": 0.2}


def test_the_test_rows_of_a_table_are_evaluated(trained, tmp_path):
    folder = write_shapes(tmp_path / "shapes", each=20, first_seed=3000)
    paths = sorted(f"{path.parent.name}/{path.name}" for path in folder.rglob("*.png"))
    parts = ["train", "train", "train", "valid", "test"]
    lines = [f"{path},{path.split('/')[0]},{parts[at % 5]}" for at, path in enumerate(paths)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *lines]) + "\n")
    table = build_table(folder, f"csv:{tmp_path}/labels.csv")
    info, tests = info_of(trained, table), paths[4::5]
    found = evaluate_test(model_of(trained, table), table, folder)
    assert found["counts"] == {"ok": 12}
    check_figures(found, trained.storage, folder, tests, [path.split("/")[0] for path in tests])
    assert info.split.given_by == "csv"
    assert describe("split", info.split) == "given by the CSV"


def test_if_no_test_image_can_be_evaluated_the_model_says_so(trained, tmp_path):
    folder = write_split(tmp_path / "shapes", train=4, valid=2)
    (folder / "test/triangle").mkdir(parents=True)
    shape("square", 1).save(folder / "test/triangle/0.png")
    table = build_table(folder, "folder")
    assert has_test_images(table)
    info = info_of(trained, table)
    found = evaluate_test(model_of(trained, table), table, folder)
    assert found == {"counts": {"unknown_class": 1}, "why": "no test image can be evaluated"}
    test = info.updated(test=found).test
    assert describe("test", test) == (
        "no test image can be evaluated; left out: 1 because the model does not know their class"
    )
