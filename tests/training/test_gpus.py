"""A training on several GPUs: here two processes on the CPU, which agree by gloo."""

import pytest
import torch
from conftest import write_shapes

from visionflows.data.table import build_table
from visionflows.errors import SettingsError, TrainError
from visionflows.training.evaluate import evaluate
from visionflows.training.fine_tune import fine_tune
from visionflows.training.gpus import check_gpus
from visionflows.training.settings import TrainSettings

SMALL = {"architecture": "resnet18", "pretrained": "none", "image_size": 32, "workers": 0}

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs, which ranks take")


@no_gpu
def test_two_ranks_come_to_what_one_process_comes_to(trained, tmp_path, caplog):
    caplog.set_level("INFO", "visionflows")
    settings = TrainSettings(**SMALL, epochs=6, lr=3e-3, precision="float32", gpus=2)
    told = []
    record = fine_tune(
        trained.table, trained.dataset, tmp_path / "draft", settings, lambda *one: told.append(one)
    )
    alone = trained.record
    assert [row.keys() for row in record["history"]] == [row.keys() for row in alone["history"]]
    assert record["batch_size"] == alone["batch_size"]
    assert record["device"] == f"{alone['device']}, 2 processes"
    ours, theirs = ([row["train_loss"] for row in one["history"]] for one in (record, alone))
    assert ours[-1] == pytest.approx(theirs[-1], rel=0.5)
    assert ours[-1] < 0.75 * ours[0]
    metrics = evaluate(trained.table, trained.dataset, tmp_path / "draft")
    assert metrics["error_rate"] == pytest.approx(trained.metrics["error_rate"], abs=0.17)
    # The published weights are those of the best epoch, of both ranks' images.
    best = min(row["error_rate"] for row in record["history"])
    assert metrics["error_rate"] == pytest.approx(best, abs=0.01)
    assert told[-1][0] == 1
    assert sum("(unfrozen)" in line for line in caplog.messages) == 6  # rank 0's lines, once each


@no_gpu
def test_what_a_rank_raises_is_raised_here_in_its_own_words(tmp_path):
    folder = write_shapes(tmp_path / "in", each=8)
    table = build_table(folder, "folder", valid_pct=0.25)
    settings = TrainSettings(**SMALL, epochs=1, batch_size=8, lr=1e30, gpus=2)
    with pytest.raises(TrainError, match=r"^epoch 1: the validation loss is .*; give a smaller"):
        fine_tune(table, folder, tmp_path / "draft", settings)
    assert not (tmp_path / "draft").exists()


def test_a_step_of_fewer_than_two_images_for_each_is_refused(tmp_path):
    folder = write_shapes(tmp_path / "in", each=2)
    table = build_table(folder, "folder", valid_pct=0.3)
    settings = TrainSettings(**SMALL, epochs=1, gpus=4)
    with pytest.raises(TrainError, match=r"gpus 4: . images a step are fewer than two for each"):
        fine_tune(table, folder, tmp_path / "draft", settings)


@no_gpu
def test_more_gpus_than_there_are_is_refused_unless_the_cpu_is_meant(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    check_gpus(1)
    with pytest.raises(SettingsError, match=r"gpus 2: torch sees 0 .*; give --gpus 1"):
        check_gpus(2)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    check_gpus(2)
