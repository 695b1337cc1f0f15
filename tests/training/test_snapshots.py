"""A training that is stopped between two epochs ends as if it had not been."""

import dataclasses
import os

import pytest
import torch
from stopped_training import RECIPES, Stopped, Training, assert_undisturbed, settings

from visionflows.training.snapshots import Snapshot, SnapshotFile

pytest_plugins = ["stopped_training"]


def test_a_stopped_training_ends_as_if_undisturbed(shapes, weights, tmp_path):
    assert_undisturbed(Training(*shapes, settings(weights, **RECIPES["fastai"])), tmp_path)


def test_a_snapshot_of_other_settings_is_not_used(shapes, weights, tmp_path):
    training = Training(*shapes, settings(weights, **RECIPES["fastai"]))
    with pytest.raises(Stopped):
        training.run(tmp_path / "checkpoint", stop_after=2)
    other = dataclasses.replace(training, settings=settings(weights, recipe="fastai", epochs=3))
    expected = other.run(tmp_path / "other")
    assert other.run(tmp_path / "checkpoint") == expected


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_damaged_snapshot_is_not_used(tmp_path, caplog, size):
    file = SnapshotFile(os.fspath(tmp_path), "final", "key")
    file.write(Snapshot({"network.weight": torch.ones(100)}, [{"epoch": 0}], {}, False))
    assert torch.equal(file.read().below("network.")["weight"], torch.ones(100))
    path = tmp_path / "final.snapshot"
    path.write_bytes(path.read_bytes()[:size])
    assert file.read() is None
    assert "damaged, not used" in caplog.text
