"""Disagreements between two versions: counts, JSON and page."""

import html
import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import CLASSES, Trained
from versions import another, changed, renamed

from visionflows.errors import ModelError, StorageError
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.reports.comparison import SAMPLES, render_comparison
from visionflows.reports.rendering import describe
from visionflows.storage import open_storage
from visionflows.training.comparison import compare_versions, run_promotion_test

TURNED = ["square", "stripes", "circle"]  # the other version's names of circle, square, stripes


@pytest.fixture
def two(trained, tmp_path) -> tuple[str, str]:
    """The trained model, and one with renamed labels; all 72 images are new to both.

    The dataset is the folder of the training.
    """
    files = (Path(trained.storage) / "files.csv").read_text().replace("False", "True")
    names = tuple(another(trained, tmp_path, name, files_csv=files) for name in ("2-new", "1-old"))
    renamed(tmp_path, "1-old", TURNED)
    for name in ("2-new", "1-old"):
        set_source(tmp_path, name, str(trained.dataset))
    return names


def set_source(store: Path, version: str, source: str) -> None:
    """Change the source of the dataset in a version's model.json."""
    info = json.loads((store / "models/shapes" / version / "model.json").read_text())
    changed(store, version, dataset=info["dataset"] | {"name": "shapes", "source": source})


def labels(trained: Trained, model: str, store: Path) -> dict[str, str]:
    """The label that a model gives each image."""
    found = load_model(find_model(model, str(store)))
    answers = make_engine(found, EngineSettings()).predict_files(
        open_storage(trained.dataset), [*trained.table.path]
    )
    return {path: found.classes[int(row.argmax())] for path, row in answers.items()}


def test_each_image_counts_once_with_the_models_own_labels(trained, two, where, tmp_path):
    found = compare_versions(*two, where(tmp_path))
    is_ = dict(zip(trained.table.path, trained.table.label, strict=True))
    a, b = (labels(trained, model, tmp_path) for model in two)
    right = [(a[path] == is_[path], b[path] == is_[path]) for path in is_]
    assert found.images == len(right) == 72
    assert found.both_right == right.count((True, True))
    assert len(found.only_a_right) == right.count((True, False)) > SAMPLES
    assert len(found.only_b_right) == right.count((False, True))
    assert (found.a_errors, found.b_errors) == tuple(sum(not r[at] for r in right) for at in (0, 1))
    apart = [path for path in is_ if a[path] != b[path] and is_[path] not in (a[path], b[path])]
    assert sorted(disagreement.path for disagreement in found.both_wrong_apart) == sorted(apart)
    assert {
        (disagreement.path, disagreement.label, disagreement.a, disagreement.b)
        for disagreement in found.disagreements
    } == {(path, is_[path], a[path], b[path]) for path in is_ if a[path] != b[path]}
    assert sum(row.images for row in found.classes) == 72
    assert [row.name for row in found.classes] == list(CLASSES)
    assert sum(row.only_a_right for row in found.classes) == len(found.only_a_right)
    assert str(found.source) == str(trained.dataset)


def test_compare_and_retrain_run_the_same_test(trained, two, tmp_path):
    found = compare_versions(*two, str(tmp_path))
    asked = run_promotion_test(*two, trained.dataset, tmp_path)
    assert found.p_value == asked["p_value"]
    assert (found.better, asked["better"]) == ("a", True)
    assert "A is better than B on 72 images unseen by both" in describe("comparison", found)
    assert "retrain promotes A" in describe("paired_test", found)
    turned = compare_versions(*reversed(two), str(tmp_path))
    assert (turned.p_value, turned.p_value_of_b) == (found.p_value_of_b, found.p_value)
    assert turned.better == "b"
    assert "retrain does not promote A" in describe("paired_test", turned)
    assert "validated on the same images" in describe("published_rates", found)
    assert "72 images" in describe("published_rates", found)
    itself = compare_versions(two[0], two[0], str(tmp_path))
    assert (itself.disagreements, itself.better, itself.p_value) == ([], "", 1.0)
    assert "No evidence" in describe("comparison", itself)


def test_the_page_is_one_file_with_samples_and_all_counts(trained, two, tmp_path):
    name = "<i>a & b"  # a class name that is valid as a folder name
    renamed(tmp_path, "2-new", [name, *CLASSES[1:]])
    found = compare_versions(*two, str(tmp_path))
    page = render_comparison(found)
    assert set(re.findall(r'src="([a-z/:]+)', page)) == {"data:image/jpeg"}
    addresses = {
        address for address in re.findall(r'href="([^"]+)', page) if not address.startswith("#")
    }
    assert {address.rpartition("/models/")[2] for address in addresses} == {
        f"{model.replace('@', '/')}/report.html" for model in two
    }
    anchors = re.findall(r'href="#([^"]+)"', page)
    assert set(anchors) <= set(re.findall(r'id="([^"]+)"', page))
    assert "<i>" not in page
    assert html.escape(name) in page
    assert page.count("<figure>") <= 3 * SAMPLES
    assert page.count("<figure>") >= SAMPLES
    disagreements = len(found.only_a_right)
    assert f"{SAMPLES} of {disagreements}" in page
    assert page.count("alt=") == page.count("<img")
    surest = found.only_a_right[0]
    assert f"{surest.path}, actual class {surest.label}" in page


def test_the_samples_cover_every_kind_of_disagreement(two, tmp_path):
    found = compare_versions(*two, str(tmp_path))
    page = render_comparison(found)
    shown = [
        disagreement for disagreement in found.only_a_right if f'alt="{disagreement.path}, ' in page
    ]
    assert len(shown) == SAMPLES
    kinds = {(disagreement.label, disagreement.b) for disagreement in found.only_a_right}
    assert {(disagreement.label, disagreement.b) for disagreement in shown} == kinds
    assert len(kinds) == 3


def test_the_json_has_every_disagreement(two, tmp_path):
    found = compare_versions(*two, str(tmp_path))
    comparison = json.loads(json.dumps(found.as_dict()))
    assert (comparison["a"], comparison["b"]) == two
    assert len(comparison["disagreements"]) == len(found.disagreements)
    kinds = ("both_right", "only_a_right", "only_b_right", "both_wrong_alike", "both_wrong_apart")
    assert sum(comparison[name] for name in kinds) == comparison["images"] == 72
    assert (comparison["better"], comparison["gone"]) == ("a", 0)


def test_changed_images_are_skipped_and_a_moved_dataset_is_found_by_data(
    trained, two, where, tmp_path
):
    moved = shutil.copytree(trained.dataset, tmp_path / "moved")
    (moved / "circle/0000.png").unlink()
    shutil.copyfile(moved / "square/0001.png", moved / "square/0000.png")
    found = compare_versions(*two, str(tmp_path), data=where(moved))
    assert (found.images, found.gone) == (70, 2)
    assert "2 images skipped: missing, or changed" in describe("not_compared", found)
    assert '<img src="data:' in render_comparison(found)


@pytest.mark.parametrize("data", ["", "empty"])
def test_missing_images_are_an_error_of_one_line(two, data, tmp_path):
    (tmp_path / "empty").mkdir()
    set_source(tmp_path, "2-new", str(tmp_path / "shapes"))
    with pytest.raises(StorageError, match="--data") as caught:
        compare_versions(*two, str(tmp_path), data and str(tmp_path / data))
    assert str(tmp_path) in str(caught.value)
    assert str(caught.value).isprintable()
    set_source(tmp_path, "2-new", "")
    with pytest.raises(StorageError, match=r"2-new: does not name its dataset.* --data"):
        compare_versions(*two, str(tmp_path))


def test_versions_without_an_unseen_image_are_an_error_of_one_line(trained, two, tmp_path):
    learnt = (Path(trained.storage) / "files.csv").read_text().replace("True", "False")
    third = another(trained, tmp_path, "3-all", files_csv=learnt)
    with pytest.raises(ModelError, match="no image of the first one's dataset is new to both"):
        compare_versions(two[0], third, str(tmp_path))
