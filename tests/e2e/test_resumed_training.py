"""Trainings by every recipe, stopped after each epoch; and one resumed on another machine."""

import pytest
import torch
from safetensors.torch import load_file
from stopped_training import RECIPES, Stopped, Training, assert_undisturbed, settings

pytest_plugins = ["stopped_training"]


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - {"fastai"}))
def test_a_stopped_training_ends_as_if_undisturbed(shapes, weights, tmp_path, monkeypatch, recipe):
    monkeypatch.setattr("visionflows.training.selection.MIN_ERRORS", 0)
    assert_undisturbed(Training(*shapes, settings(weights, **RECIPES[recipe])), tmp_path)


def test_epoch_snapshots_are_in_the_store_of_another_machine(shapes, weights, tmp_path, bucket):
    training = Training(*shapes, settings(weights, **RECIPES["fastai"]))
    expected = training.run(tmp_path / "undisturbed")
    location = f"{bucket}/.checkpoints/key"
    with pytest.raises(Stopped):
        training.run(tmp_path / "one", stop_after=2, snapshots=location)
    assert not (tmp_path / "one").exists() or not any((tmp_path / "one").glob("*.snapshot"))
    found = training.run(tmp_path / "other", snapshots=location)
    assert training.epochs == 1, "the first two were not trained again"
    assert found == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs, which workers take")
def test_workers_resume_from_the_snapshot_that_their_parent_stored(shapes, weights, tmp_path):
    training = Training(*shapes, settings(weights, **RECIPES["fastai"], gpus=2))
    expected = training.run(tmp_path / "undisturbed")
    store = tmp_path / "store"
    with pytest.raises(Stopped):
        training.run(tmp_path / "stopped", stop_after=2, snapshots=store)
    assert [path.name for path in store.iterdir()] == ["final.snapshot"]
    found = training.run(tmp_path / "other", snapshots=store)
    assert training.epochs == 1, "the first two were not trained again"
    assert found == expected
    paths = (tmp_path / name / "weights.safetensors" for name in ("undisturbed", "other"))
    one, other = map(load_file, paths)
    assert all(torch.equal(one[name], other[name]) for name in one)
