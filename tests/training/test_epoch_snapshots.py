"""A training that is stopped between two epochs ends as if it had not been."""

import dataclasses
import os

import pytest
import torch
from stopped_training import RECIPES, Stopped, Training, assert_undisturbed, settings

from visionflows.training.epoch_snapshots import Snapshot, SnapshotFile
from visionflows.training.fine_tune import fine_tune

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


def test_a_snapshot_of_other_labels_is_not_used(shapes, weights, tmp_path):
    table, folder = shapes
    training = Training(table, folder, settings(weights, **RECIPES["fastai"]))
    training.run(tmp_path)
    swapped = {"circle": "square", "square": "circle"}
    other = table.assign(label=table.label.map(lambda name: swapped.get(name, name)))
    corrected = dataclasses.replace(training, table=other)
    corrected.run(tmp_path)
    assert corrected.epochs == training.epochs


def test_a_training_with_a_halved_batch_resumes_with_it(shapes, weights, tmp_path):
    """The first epoch with a whole batch runs out of memory; the smaller one is stopped."""
    training = Training(*shapes, settings(weights, **RECIPES["fastai"]))

    def out_of_memory(share: float, line: str) -> None:
        if not (tmp_path / "batch_size").exists():
            raise torch.cuda.OutOfMemoryError("of a GPU")
        if line.startswith("epoch 3"):
            raise Stopped

    arguments = (training.table, training.folder, tmp_path, training.settings)
    with pytest.raises(Stopped):
        fine_tune(*arguments, out_of_memory)
    record = training.run(tmp_path)
    assert record["batch_size"] == training.settings.batch_size // 2
    assert training.epochs == 1, "the first two were not trained again"


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_damaged_snapshot_is_not_used(tmp_path, caplog, size):
    file = SnapshotFile(os.fspath(tmp_path), "final.snapshot", "key")
    file.write(Snapshot({"network.weight": torch.ones(100)}, [{"epoch": 0}], {}, False))
    assert torch.equal(file.read().tensors_of("network.")["weight"], torch.ones(100))
    path = tmp_path / "final.snapshot"
    path.write_bytes(path.read_bytes()[:size])
    assert file.read() is None
    assert "damaged, not used" in caplog.text
