"""A training on several GPUs that cannot be; those that can are in tests/e2e/test_ranks.py."""

import pytest
import torch
from conftest import write_shapes

from visionflows.data.table import build_table
from visionflows.errors import SettingsError, TrainError
from visionflows.training.fine_tune import fine_tune
from visionflows.training.gpus import check_gpus
from visionflows.training.settings import TrainSettings

SMALL = {"architecture": "resnet18", "pretrained": "none", "image_size": 32, "workers": 0}


def test_a_step_of_fewer_than_two_images_for_each_is_refused(tmp_path):
    folder = write_shapes(tmp_path / "in", each=2)
    table = build_table(folder, "folder", valid_pct=0.3)
    settings = TrainSettings(**SMALL, epochs=1, gpus=4)
    with pytest.raises(TrainError, match=r"gpus 4: . images a step are fewer than two for each"):
        fine_tune(table, folder, tmp_path / "draft", settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs")
def test_more_gpus_than_there_are_is_refused_unless_the_cpu_is_meant(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    check_gpus(1)
    with pytest.raises(SettingsError, match=r"gpus 2: torch sees 0 .*; give --gpus 1"):
        check_gpus(2)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    check_gpus(2)
