"""The promotion test: which of two models is better on unseen images."""

import shutil
from pathlib import Path

import pytest
from conftest import Trained
from versions import another, renamed

from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.reports.comparison import MCNEMAR_ALPHA, mcnemar_test
from visionflows.storage import open_storage
from visionflows.training.comparison import images_needed, run_promotion_test


@pytest.fixture
def files_csv(trained) -> str:
    return (Path(trained.storage) / "files.csv").read_text()


def test_a_model_is_not_better_than_itself(trained, where, tmp_path):
    new, old = (another(trained, tmp_path, name) for name in ("2-new", "1-old"))
    found = run_promotion_test(new, old, trained.dataset, where(tmp_path))
    assert found["images"] == int(trained.table.is_valid.sum()) > 0
    assert found["candidate_errors"] == found["production_errors"]
    assert (found["only_candidate_right"], found["only_production_right"]) == (0, 0)
    assert not found["better"]


def test_a_model_with_fewer_errors_is_better(trained, where, tmp_path):
    new = another(trained, tmp_path, "2-new")
    # The old model has swapped classes: it labels squares stripes, and stripes circles.
    old = another(trained, tmp_path, "1-old")
    renamed(tmp_path, "1-old", ["square", "stripes", "circle"])
    found = run_promotion_test(new, old, trained.dataset, where(tmp_path))
    assert found["better"]
    assert found["candidate_errors"] < found["production_errors"]
    assert found["only_candidate_right"] > found["only_production_right"]
    assert f"the same {found['images']} images" in found["why"]


def always_right(trained: Trained, store: Path, version: str, images: int) -> str:
    """The trained model, validated on images that have its own labels."""
    valid = trained.table[trained.table.is_valid][:images]
    model = load_model(find_model("shapes", trained.store))
    answers = make_engine(model, EngineSettings()).predict_files(
        open_storage(trained.dataset), [*valid.path]
    )
    labels = [model.classes[int(answers[path].argmax())] for path in valid.path]
    return another(trained, store, version, files_csv=valid.assign(label=labels).to_csv())


@pytest.mark.parametrize("images, better", [(4, False), (5, True)])
def test_four_images_are_no_evidence_and_five_are(trained, tmp_path, images, better):
    new = always_right(trained, tmp_path, "2-new", images)
    old = another(trained, tmp_path, "1-old")
    renamed(tmp_path, "1-old", ["square", "stripes", "circle"])  # always wrong
    found = run_promotion_test(new, old, trained.dataset, tmp_path)
    assert (found["only_candidate_right"], found["only_production_right"]) == (images, 0)
    assert found["p_value"] == pytest.approx(0.5**images)  # 0.0625 for four, 0.03125 for five
    assert (found["better"], found["needed"]) == (better, 5)
    assert ("no evidence" in found["why"]) is not better
    assert "exact McNemar test" in found["why"]
    assert better or "would need 5" in found["why"]


@pytest.mark.parametrize(
    "candidate, production, p_value, needed",
    [
        (0, 0, 1.0, 5),
        (1, 0, 0.5, 5),
        (5, 0, 0.03125, 5),
        (8, 4, 0.193848, 12),
        (12, 4, 0.038406, 12),
    ],
)
def test_mcnemars_test(candidate, production, p_value, needed):
    assert mcnemar_test(candidate, production) == pytest.approx(p_value, rel=1e-4)
    assert images_needed(production) == needed
    assert (p_value <= MCNEMAR_ALPHA) is (candidate >= needed)


def test_a_class_that_production_does_not_know_is_not_compared(trained, where, tmp_path):
    new = another(trained, tmp_path, "2-new")
    old = another(trained, tmp_path, "1-old")
    renamed(tmp_path, "1-old", ["circle", "square", "zebra"])  # stripes by another name
    found = run_promotion_test(new, old, trained.dataset, where(tmp_path))
    stripes = int((trained.table.is_valid & trained.table.label.eq("stripes")).sum())
    assert found["not_compared"] == stripes > 0
    assert found["images"] == int(trained.table.is_valid.sum()) - stripes
    assert (found["new_classes"], found["lost_classes"]) == (["stripes"], ["zebra"])
    assert not found["better"]
    assert "the candidate also knows stripes; the candidate does not know zebra" in found["why"]
    assert f"{stripes} images of classes that production does not know" in found["why"]


def test_the_same_bytes_are_one_image(trained, files_csv, tmp_path):
    rows = files_csv.splitlines(keepends=True)
    again = [row.replace(".png", "-copy.png") for row in rows[1:]]
    new = another(trained, tmp_path, "2-new", files_csv="".join(rows + again))
    old = another(trained, tmp_path, "1-old")
    folder = shutil.copytree(trained.dataset, tmp_path / "shapes")
    for path in list(folder.rglob("*.png")):
        shutil.copyfile(path, path.with_name(f"{path.stem}-copy.png"))
    found = run_promotion_test(new, old, folder, tmp_path)
    assert found["images"] == int(trained.table.is_valid.sum())


@pytest.mark.parametrize("of_a, of_b", [(True, True), (True, False), (False, True)])
def test_images_of_a_group_that_production_was_trained_on_are_not_compared(
    trained, tmp_path, of_a, of_b
):
    table = trained.table
    valid = table.path[table.is_valid].tolist()
    cameras = dict.fromkeys(valid[:5], "seen") | dict.fromkeys(valid[5:8], "new")
    grouped = table.assign(group=table.path.map(cameras).fillna(""))
    versions = []
    for version, has_groups in (("2-new", of_a), ("1-old", of_b)):
        files = grouped if has_groups else table
        if version == "1-old":  # production was trained on one of five
            files = files.assign(is_valid=files.is_valid & (files.path != valid[0]))
        versions.append(another(trained, tmp_path, version, files_csv=files.to_csv(index=False)))
    found = run_promotion_test(*versions, trained.dataset, tmp_path)
    assert (found["same_group"], found["images"]) == (4, len(valid) - 5)
    assert "4 images of groups that production was trained on" in found["why"]


def test_copies_of_training_images_of_production_are_not_compared(trained, tmp_path):
    """Photos that were saved again have other bytes."""
    copies = trained.table.assign(is_valid=False, sha256=trained.table.sha256.str[::-1])
    new = another(trained, tmp_path, "2-new")
    old = another(trained, tmp_path, "1-old", files_csv=copies.to_csv(index=False))
    assert run_promotion_test(new, old, trained.dataset, tmp_path)["images"] == 0


def test_training_images_of_production_are_not_compared(trained, files_csv, where, tmp_path):
    new = another(trained, tmp_path, "2-new")
    old = another(trained, tmp_path, "1-old", files_csv=files_csv.replace("True", "False"))
    found = run_promotion_test(new, old, trained.dataset, where(tmp_path))
    assert (found["images"], found["better"]) == (0, False)
    assert "no validation image" in found["why"]
