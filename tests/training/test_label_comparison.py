"""Compare and promote models that give a photo several labels."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from visionflows.api import TrainedModel
from visionflows.errors import ModelError
from visionflows.reports.comparison import Comparison, render_comparison
from visionflows.reports.rendering import describe
from visionflows.training.comparison import compare_versions, run_promotion_test

pytest_plugins = ["several_labels"]


@pytest.fixture(scope="module")
def store(pairs_model, tmp_path_factory) -> str:
    """A copy of the store, to which tests add versions."""
    root = tmp_path_factory.mktemp("pairs")
    return str(shutil.copytree(pairs_model.store, root / "store"))


@pytest.fixture(scope="module")
def pairs(pairs_model) -> Path:
    return pairs_model.folder


@pytest.fixture(scope="module")
def candidate(pairs_model, store) -> TrainedModel:
    location = f"{store}/models/pairs/{pairs_model.version}"
    return dataclasses.replace(pairs_model, location=location, store=store)


@pytest.fixture(scope="module")
def production(candidate, store) -> str:
    """The candidate with its classes in another order, so most of its labels are wrong."""
    folder = Path(candidate.location).with_name("1-old")
    shutil.copytree(candidate.location, folder)
    info = json.loads((folder / "model.json").read_text())
    info |= {"version": "1-old", "classes": [*info["classes"][1:], info["classes"][0]]}
    (folder / "model.json").write_text(json.dumps(info))
    return "pairs@1-old"


@pytest.fixture(scope="module")
def found(candidate, production, store) -> Comparison:
    return compare_versions(f"pairs@{candidate.version}", production, store)


def test_the_better_model_is_found_by_mean_average_precision(found, candidate):
    assert found.metric == "mean_average_precision"
    assert found.test.candidate == pytest.approx(candidate.metrics.mean_average_precision, abs=0.02)
    assert found.test.candidate > found.test.production + 0.2
    assert (found.better, found.p_value < 0.025 < found.p_value_of_b) == ("a", True)
    assert "The mean average precision is" in describe("paired_test", found)
    assert "Paired randomization test" in describe("paired_test", found)


def test_an_image_is_correct_if_all_its_labels_are(found):
    rows = found.rows
    assert found.a_errors == int((rows.a != rows.label).sum())
    for row in found.classes:
        has = [
            one.str.split(";").map(lambda names, row=row: row.name in names)
            for one in (rows.label, rows.a, rows.b)
        ]
        counted = has[0] | has[1] | has[2]
        assert row.images == int(counted.sum())
        assert row.a_right == int((counted & (has[0] == has[1])).sum())
        assert row.only_b_right == int((counted & (has[0] == has[2]) & (has[0] != has[1])).sum())


def test_the_page_and_the_json_have_the_metric(found):
    page = render_comparison(found)
    assert "An image is correct if it gets all its labels and no other." in page
    assert page.count("<figure>") == min(len(found.only_a_right), 20) + min(
        len(found.only_b_right), 20
    ) + min(len(found.both_wrong_apart), 20)
    comparison = json.loads(json.dumps(found.as_dict()))
    assert comparison["metric"] == "mean_average_precision"
    assert comparison["a_metric"] > comparison["b_metric"]


def test_a_better_model_is_promoted_and_a_worse_one_is_not(candidate, production, pairs, store):
    new = f"pairs@{candidate.version}"
    better = run_promotion_test(new, production, pairs, store)
    assert better["better"]
    assert "mean average precision" in better["why"]
    assert not run_promotion_test(production, new, pairs, store)["better"]
    itself = run_promotion_test(new, new, pairs, store)
    assert (itself["better"], itself["p_value"]) == (False, 1.0)


def test_a_class_that_one_does_not_know_is_no_class_of_the_test(candidate, pairs, store):
    folder = Path(candidate.location).with_name("0-older")
    shutil.copytree(candidate.location, folder)
    info = json.loads((folder / "model.json").read_text())
    info |= {"version": "0-older", "classes": ["circle", "square", "triangle"]}
    (folder / "model.json").write_text(json.dumps(info))
    verdict = run_promotion_test(f"pairs@{candidate.version}", "pairs@0-older", pairs, store)
    assert verdict["new_classes"] == ["stripes"]
    assert verdict["not_compared"] > 0
    assert verdict["candidate_metric"] > 0.5


def test_models_of_one_label_and_of_several_are_not_compared(candidate, trained, pairs, store):
    with pytest.raises(ModelError, match=r"gives several labels a photo, shapes@\S+ one: they"):
        run_promotion_test(f"pairs@{candidate.version}", trained.storage, pairs, store)
