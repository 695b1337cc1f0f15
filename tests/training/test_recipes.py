"""Recipes: linear probe, fine-tuning from its head, and the choice between them."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSES, write_shapes
from pydantic import ValidationError
from safetensors.torch import load_file

from visionflows.datasets.file_table import build_table
from visionflows.errors import SettingsError, TrainError
from visionflows.training import recipes
from visionflows.training.evidence.evaluate import evaluate_checkpoint
from visionflows.training.fine_tune import fine_tune
from visionflows.training.linear_probe import LinearProbe, Sample
from visionflows.training.settings import TrainSettings

pytest_plugins = ["stopped_training"]  # the fixture weights


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> tuple[pd.DataFrame, str]:
    folder = write_shapes(tmp_path_factory.mktemp("shapes"), each=40)
    return build_table(folder, "folder", valid_pct=0.25), str(folder)


def settings(weights: str, **given) -> TrainSettings:
    common = {"architecture": "test_resnet", "pretrained": weights, "image_size": 32, "workers": 0}
    return TrainSettings(**common | {"batch_size": 16, "precision": "float32"} | given)


def test_the_probe_trains_the_head_only(shapes, weights, tmp_path):
    table, folder = shapes
    record = fine_tune(table, folder, tmp_path, settings(weights, recipe="probe"))
    assert record["history"] == []
    assert record["classes"] == list(CLASSES)
    initial, trained = load_file(weights), load_file(tmp_path / "weights.safetensors")
    body = [name for name in trained if name.startswith("0.model.")]
    assert len(body) > 20
    for name in body:
        assert torch.equal(trained[name], initial[name.removeprefix("0.model.")]), name
    assert trained["1.2.weight"].shape[0] == len(CLASSES)
    metrics = evaluate_checkpoint(table, folder, tmp_path)
    assert metrics["accuracy"] > 0.5


def test_a_group_is_in_one_fold_of_the_probe(shapes, weights, tmp_path, monkeypatch):
    _, folder = shapes
    table = build_table(folder, "folder", group=r"regex:(\d)\.png", valid_pct=0.25)
    samples: list[Sample] = []
    monkeypatch.setattr(recipes, "choose_strength", lambda sample: samples.append(sample) or 1e-2)
    fine_tune(table, folder, tmp_path, settings(weights, recipe="probe"))
    train = table[~table.is_valid]
    assert len(samples[0].groups) == len(train)
    assert len(np.unique(samples[0].groups)) == train.group.nunique() < 10


def test_features_of_all_images_stay_for_the_evidence(shapes, weights, tmp_path):
    table, folder = shapes
    fine_tune(table, folder, tmp_path, settings(weights, recipe="probe"))
    with np.load(tmp_path / "features.npz", allow_pickle=False) as arrays:
        assert set(arrays["sha256"]) == set(table.sha256)
        assert len(arrays["features"]) == len(table)


def test_auto_publishes_the_probe_if_it_leaves_nothing_to_gain(
    shapes, weights, tmp_path, monkeypatch
):
    table, folder = shapes
    monkeypatch.setattr("visionflows.training.selection.MIN_ERRORS", 1000)
    record = fine_tune(table, folder, tmp_path, settings(weights))
    assert record["settings"]["recipe"] == "auto"
    selection = record["selection"]
    assert selection["published"] == "linear probe"
    assert "fine-tuning can be shown to be better only if" in selection["why"]
    assert [one["name"] for one in selection["candidates"]] == ["linear probe"]
    probe = fine_tune(table, folder, tmp_path / "probe", settings(weights, recipe="probe"))
    assert probe["selection"] is None
    both = [load_file(path / "weights.safetensors") for path in (tmp_path, tmp_path / "probe")]
    assert {name: value.shape for name, value in both[0].items()} == {
        name: value.shape for name, value in both[1].items()
    }


def test_too_few_images_to_compare_candidates(shapes, weights, tmp_path, caplog):
    table, folder = shapes
    one_each = table[~table.is_valid].groupby("label").head(1)
    files = pd.concat([table[table.is_valid], one_each]).reset_index(drop=True)
    record = fine_tune(files, folder, tmp_path / "auto", settings(weights))
    assert (record["selection"], record["history"]) == (None, [])
    assert "only a linear probe" in caplog.text
    given = settings(weights, recipe="fastai", keep="best")
    with pytest.raises(TrainError, match="3 training images are too few to hold some out"):
        fine_tune(files, folder, tmp_path / "fastai", given)


def knows_nothing(sample: Sample, strength: float, classes: int) -> LinearProbe:
    return LinearProbe(np.zeros((classes, sample.features.shape[1])), np.zeros(classes))


@pytest.mark.slow
def test_auto_publishes_the_best_candidate(shapes, weights, tmp_path, monkeypatch):
    table, folder = shapes
    monkeypatch.setattr(recipes, "fit_probe", knows_nothing)
    given = settings(weights, epochs=8, lr=3e-2)
    record = fine_tune(table, folder, tmp_path, given)
    selection = record["selection"]
    names = [one["name"] for one in selection["candidates"]]
    assert names == ["linear probe", *(f"epoch {number}" for number in range(1, 9))]
    errors = {one["name"]: one["error_rate"] for one in selection["candidates"]}
    assert errors[selection["published"]] == min(errors.values())
    assert errors["linear probe"] > min(errors.values())
    chosen = names.index(selection["published"])
    assert len(record["history"]) == chosen, "trained again, up to the epoch that was chosen"
    metrics = evaluate_checkpoint(table, folder, tmp_path)
    assert metrics["error_rate"] == pytest.approx(record["history"][-1]["error_rate"])
    assert metrics["error_rate"] < errors["linear probe"]


@pytest.mark.slow
def test_validation_images_choose_nothing(shapes, weights, tmp_path, monkeypatch):
    """Wrong labels of all validation images change what is measured, not what is published."""
    table, folder = shapes
    monkeypatch.setattr("visionflows.training.selection.MIN_ERRORS", 0)
    shifted = dict(zip(CLASSES, CLASSES[1:] + CLASSES[:1], strict=True))
    wrong = table.assign(label=table.label.where(~table.is_valid, table.label.map(shifted)))
    given = settings(weights, epochs=3, lr=1e-2)
    for name, files in (("right", table), ("wrong", wrong)):
        fine_tune(files, folder, tmp_path / name, given)
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("right", "wrong"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_fastai_keeps_the_last_epoch_or_chooses_on_training_images(shapes, weights, tmp_path):
    table, folder = shapes
    given = settings(weights, recipe="fastai", epochs=2)
    last = fine_tune(table, folder, tmp_path / "last", given)
    assert last["selection"] is None
    assert [row["phase"] for row in last["history"]] == ["frozen", "unfrozen", "unfrozen"]
    best = fine_tune(table, folder, tmp_path / "best", given.model_copy(update={"keep": "best"}))
    selection = best["selection"]
    assert [one["name"] for one in selection["candidates"]] == ["epoch 2", "epoch 3"]
    assert selection["images"] == sum(~table.is_valid) // 5
    assert json.loads((tmp_path / "best/training.json").read_text())["selection"] == selection


@pytest.mark.parametrize(
    "given, error",
    [
        ({"pretrained": "none", "recipe": "probe"}, "recipe probe: needs pretrained weights"),
        ({"pretrained": "none", "recipe": "auto"}, "recipe auto: needs pretrained weights"),
        ({"freeze_epochs": 1}, "only recipe fastai has frozen epochs"),
        ({"keep": "last"}, "keep last: recipe auto chooses the best epoch"),
        ({"recipe": "fastai", "keep": "last", "patience": 2}, "keep last: --patience chooses"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given, error):
    with pytest.raises(SettingsError, match=error):
        TrainSettings(**given).resolved()


@pytest.mark.parametrize("lr", [0, -0.01, "inf", "nan", "fast"])
def test_a_learning_rate_that_cannot_train_is_refused(lr):
    with pytest.raises(ValidationError, match="lr"):
        TrainSettings(lr=lr)


def test_defaults_depend_on_the_recipe():
    auto, scratch = TrainSettings().resolved(), TrainSettings(pretrained="none").resolved()
    assert (auto.recipe, auto.epochs, auto.freeze_epochs, auto.keep) == ("auto", 4, 0, "best")
    assert (scratch.recipe, scratch.epochs, scratch.freeze_epochs) == ("fastai", 1, 0)
    fastai = TrainSettings(recipe="fastai", lr=0.1).resolved()
    assert (fastai.epochs, fastai.freeze_epochs, fastai.lr, fastai.keep) == (1, 1, 0.1, "last")
    assert fastai.resolved() == fastai
