"""Trainings that are stopped after an epoch, and their fixtures."""

import dataclasses

import pandas as pd
import pytest
import timm
import torch
from conftest import write_shapes
from safetensors.torch import load_file, save_file

from visionflows.datasets.file_table import build_table
from visionflows.training.fine_tune import fine_tune
from visionflows.training.settings import TrainSettings


class Stopped(BaseException):
    """Raised where a kill would end the process."""


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> str:
    """A state dict of timm's test network, its weights random."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return str(path)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> tuple[pd.DataFrame, str]:
    folder = write_shapes(tmp_path_factory.mktemp("shapes"), each=24)
    return build_table(folder, "folder", valid_pct=0.25), str(folder)


@dataclasses.dataclass
class Training:
    """A training that can be stopped when its log shows the end of so many epochs."""

    table: pd.DataFrame
    folder: str
    settings: TrainSettings

    def run(self, checkpoint, stop_after: int = 0, snapshots="") -> dict:
        """The record without what a clock measures."""
        epochs = []

        def on_progress(share: float, line: str) -> None:
            if line.startswith("epoch") and line not in epochs:
                epochs.append(line)
            if stop_after and len(epochs) > stop_after:
                raise Stopped

        arguments = (self.table, self.folder, checkpoint, self.settings, on_progress, snapshots)
        record = fine_tune(*arguments)
        self.epochs = len(epochs)
        return without_seconds(record)


def without_seconds(record: dict) -> dict:
    history = [{**row, "seconds": 0} for row in record["history"]]
    return {**record, "history": history, "seconds": 0}


def settings(weights: str, **given) -> TrainSettings:
    common = {"architecture": "test_resnet", "pretrained": weights, "image_size": 32}
    return TrainSettings(**common | {"batch_size": 16, "workers": 0} | given)


RECIPES = {
    "fastai": {"recipe": "fastai", "epochs": 2, "freeze_epochs": 1},
    "best": {"recipe": "fastai", "epochs": 3, "keep": "best", "lr": 2e-2},
    "found": {"recipe": "fastai", "epochs": 2, "freeze_epochs": 0, "lr": "find"},
    "mixup": {"recipe": "fastai", "epochs": 2, "mixup": 0.4, "balance": "full"},
    "patience": {"recipe": "fastai", "epochs": 9, "patience": 1, "lr": 1e-9},
    "processes": {"recipe": "fastai", "epochs": 1, "workers": 1},
    "auto": {"epochs": 2, "lr": 1e-2},
}


def run_stopped(training: Training, checkpoint) -> tuple[int, dict]:
    """Stop a training in the second epoch of each run; the number of stops, and the record."""
    for stops in range(20):
        try:
            return stops, training.run(checkpoint, stop_after=1)
        except Stopped:
            continue
    raise AssertionError("it never ends")


def assert_undisturbed(training: Training, folder) -> None:
    """Stopped after every epoch, a training gives what it gives undisturbed."""
    expected, total = training.run(folder / "undisturbed"), training.epochs
    stops, found = run_stopped(training, folder / "stopped")
    assert stops >= total - 1 > 0
    assert found == expected
    paths = (folder / name / "weights.safetensors" for name in ("undisturbed", "stopped"))
    one, other = map(load_file, paths)
    assert all(torch.equal(one[name], other[name]) for name in one)
