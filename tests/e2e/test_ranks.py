"""Trainings on two ranks, each a command of its own, of which somebody is killed."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from conftest import write_shapes

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="there are GPUs, which ranks take"
)

WAIT = 90.0  # seconds for ranks to begin: they import torch and fastai


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
