"""Trainings by two processes on the CPU, which agree by gloo; and of which somebody is killed."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from conftest import write_shapes

from visionflows.data.table import build_table
from visionflows.errors import TrainError
from visionflows.training.evaluate import evaluate
from visionflows.training.fine_tune import fine_tune
from visionflows.training.settings import TrainSettings

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="there are GPUs, which ranks take"
)

SMALL = {"architecture": "resnet18", "pretrained": "none", "image_size": 32, "workers": 0}
WAIT = 90.0  # seconds for ranks to begin: they import torch and fastai


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


def test_what_a_rank_raises_is_raised_here_in_its_own_words(tmp_path):
    folder = write_shapes(tmp_path / "in", each=8)
    table = build_table(folder, "folder", valid_pct=0.25)
    settings = TrainSettings(**SMALL, epochs=1, batch_size=8, lr=1e30, gpus=2)
    with pytest.raises(TrainError, match=r"^epoch 1: the validation loss is .*; give a smaller"):
        fine_tune(table, folder, tmp_path / "draft", settings)
    assert not (tmp_path / "draft").exists()


@pytest.fixture
def training(tmp_path):
    """A long training by two ranks: its process, and theirs once both learn."""
    folder = write_shapes(tmp_path / "in", each=24)
    words = [sys.executable, "-m", "visionflows.cli", "train", folder, "--name", "shapes"]
    words += ["--arch", "resnet18", "--pretrained", "none", "--image-size", "32"]
    words += ["--epochs", "500", "--gpus", "2", "--store", tmp_path / "store"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            words, stderr=log, stdout=log, env=os.environ | {"ACCELERATE_USE_CPU": "true"}
        )
    until = time.monotonic() + WAIT
    while "epoch 1/500" not in (text := (tmp_path / "log").read_text()):
        assert process.poll() is None, text
        assert time.monotonic() < until, text
        time.sleep(0.2)
    yield process, ranks_of(process.pid)
    for one in [*psutil.Process().children(recursive=True)]:
        one.kill()


def ranks_of(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children(recursive=True)
    return [one for one in children if "spawn_main" in " ".join(one.cmdline())]


def test_a_rank_that_is_killed_ends_the_training_within_seconds(training, tmp_path):
    process, ranks = training
    assert len(ranks) == 2
    ranks[1].send_signal(signal.SIGKILL)
    assert process.wait(timeout=20) == 1
    last = (tmp_path / "log").read_text().strip().splitlines()[-1]
    assert "rank 1 of 2 was ended by SIGKILL" in last
    assert not any(one.is_running() for one in ranks)
    assert not [*(tmp_path / "store").glob("models/*")]
    assert not [*(tmp_path / "store").glob(".drafts/*/weights.safetensors")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_ranks_end_with_the_command_however_that_ends(training, number):
    process, ranks = training
    process.send_signal(number)
    assert process.wait(timeout=20) != 0
    _, alive = psutil.wait_procs(ranks, timeout=10)
    assert not alive
