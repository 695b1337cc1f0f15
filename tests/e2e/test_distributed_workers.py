"""Distributed training with two CPU processes over gloo, also when one is killed."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import torch
from conftest import LEARNING, SMALL, write_shapes
from safetensors.torch import load_file

from visionflows.datasets.file_table import build_table
from visionflows.errors import TrainError
from visionflows.training.dataloaders import make_dataloaders
from visionflows.training.distributed.worker import TrainingJob, distributed_training, process_group
from visionflows.training.epochs import train_epochs
from visionflows.training.evidence.evaluate import evaluate_checkpoint
from visionflows.training.fine_tune import fine_tune
from visionflows.training.learner import epoch_metrics, make_learner
from visionflows.training.schedule import Schedule
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    from fastai.learner import Learner

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="there are GPUs, which ranks take"
)

WAIT = 180.0  # seconds for workers to start: they import torch and fastai


def test_two_workers_give_the_result_of_one_process(trained, tmp_path, caplog):
    caplog.set_level("INFO", "visionflows")
    settings = TrainSettings(**SMALL, **LEARNING, gpus=2)
    progress = []
    record = fine_tune(
        trained.table,
        trained.dataset,
        tmp_path / "checkpoint",
        settings,
        lambda *step: progress.append(step),
    )
    alone = trained.record
    assert [row.keys() for row in record["history"]] == [row.keys() for row in alone["history"]]
    assert record["batch_size"] == alone["batch_size"]
    assert record["device"] == f"{alone['device']}, 2 processes"
    ours, theirs = ([row["train_loss"] for row in one["history"]] for one in (record, alone))
    assert ours[-1] == pytest.approx(theirs[-1], rel=0.5)
    assert ours[-1] < 0.75 * ours[0]
    metrics = evaluate_checkpoint(trained.table, trained.dataset, tmp_path / "checkpoint")
    assert metrics["error_rate"] <= trained.metrics["error_rate"] + 0.17  # 3 of 18 images
    # The published weights are those of the last epoch, on the images of both workers.
    last = record["history"][-1]["error_rate"]
    assert metrics["error_rate"] == pytest.approx(last, abs=0.01)
    assert progress[-1][0] == 1
    unfrozen = sum("(unfrozen)" in line for line in caplog.messages)
    assert unfrozen == LEARNING["epochs"]  # the log lines of rank 0, once each


def plain(folder: Path, settings: TrainSettings) -> "Learner":
    """A network without batch norm, with plain gradient descent: exact on one and two workers."""
    from fastai.learner import Learner
    from fastai.optimizer import SGD

    torch.manual_seed(1)
    pooled = torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten()
    network = torch.nn.Sequential(*pooled, torch.nn.Linear(48, 3))
    loaders = make_dataloaders(build_table(folder, "folder", valid_pct=1 / 3), folder, settings)
    return Learner(loaders, network, opt_func=SGD, metrics=epoch_metrics(multi_label=False))


def train_plain(learn: "Learner", settings: TrainSettings) -> dict:
    """The inputs of the network in each epoch, and the training result."""
    from fastai.callback import schedule  # noqa: F401
    from fastai.callback.core import Callback

    seen, steps = [], []

    class Seen(Callback):
        def before_train(self):
            seen.append([])
            steps.append(len(self.dl))

        def before_batch(self):
            if self.training:
                images = self.xb[0].numpy()
                seen[-1].append([hashlib.sha256(one.tobytes()).hexdigest() for one in images])

    learn.add_cb(Seen())
    with learn.no_bar(), learn.no_logging():
        history = train_epochs(learn, Schedule(settings, 0.1), None)
    weights = learn.model[-1].weight.detach().flatten().tolist()
    return {"seen": seen, "steps": steps, "weights": weights, "history": history}


PLAIN = {"image_size": 32, "resize": "squish", "augment": "none", "pretrained": "none", "epochs": 3}


def plain_rank(number: int, folder: str, batch: int) -> None:
    """A worker that trains the plain network, for the test below."""
    settings = TrainSettings(**PLAIN, batch_size=batch, gpus=2, workers=0)
    with process_group(number, TrainingJob(None, "", (), Schedule(settings, 0.1), folder)):
        learn = plain(Path(folder, "in"), settings)
        with distributed_training(learn):
            result = train_plain(learn, settings)
    Path(folder, f"{number}.json").write_text(json.dumps(result), encoding="utf-8")


def test_two_workers_see_every_image_once_and_train_one_network(tmp_path):
    folder = write_shapes(tmp_path / "in", each=9)
    alone = TrainSettings(**PLAIN, batch_size=64, workers=0)
    learn = plain(folder, alone)
    batch, validated = learn.dls.bs, len(learn.dls.valid_ds)
    assert (batch % 2, validated % 2) == (0, 1)  # one step per epoch; one worker lacks an image
    one = train_plain(learn, alone)
    torch.multiprocessing.spawn(plain_rank, (str(tmp_path), batch // 2), 2)
    two = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2)]
    for epoch in range(3):
        assert [len(rank["seen"][epoch]) for rank in two] == [1, 1]
        shown = [image for rank in two for step in rank["seen"][epoch] for image in step]
        assert sorted(shown) == sorted(one["seen"][epoch][0])
        assert len({*shown}) == batch
        assert [rank["steps"][epoch] for rank in two] == [1, 1]
    assert two[0]["weights"] == two[1]["weights"]
    # The mean over the images of both workers is the mean over the batch.
    assert two[0]["weights"] == pytest.approx(one["weights"], abs=1e-5)
    ours, theirs = ([row["valid_loss"] for row in result["history"]] for result in (two[0], one))
    assert ours == pytest.approx(theirs, rel=1 / validated)  # for an image that counts twice
    assert ours == [row["valid_loss"] for row in two[1]["history"]]


def test_weights_without_use_frozen_epochs_and_patience(tmp_path, monkeypatch):
    """timm leaves an unused head in the body of this network."""
    (tmp_path / "a#b?c").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a#b?c"))
    folder = write_shapes(tmp_path / "in", each=9)
    table = build_table(folder, "folder", valid_pct=0.25)
    settings = TrainSettings(
        **SMALL | {"architecture": "mobilenetv3_small_050"},
        **{"epochs": 20, "freeze_epochs": 1, "patience": 1, "batch_size": 8, "lr": 1e-9},
        gpus=2,
    )
    history = fine_tune(table, folder, tmp_path / "checkpoint", settings)["history"]
    assert [row["phase"] for row in history[:2]] == ["frozen", "unfrozen"]
    assert len(history) < 21
    assert {one.name for one in tmp_path.iterdir()} == {"a#b?c", "in", "checkpoint"}
    network = make_learner(table, folder, settings).model
    network.load_state_dict(load_file(tmp_path / "checkpoint/weights.safetensors"))


def test_an_error_of_a_worker_is_raised_unchanged(tmp_path):
    folder = write_shapes(tmp_path / "in", each=8)
    table = build_table(folder, "folder", valid_pct=0.25)
    settings = TrainSettings(**SMALL, epochs=1, batch_size=8, lr=1e30, gpus=2)
    with pytest.raises(TrainError, match=r"^epoch 1: the validation loss is .*; give a smaller"):
        fine_tune(table, folder, tmp_path / "checkpoint", settings)
    assert not (tmp_path / "checkpoint").exists()


@pytest.fixture
def training(tmp_path):
    """A long training with two workers: its process, and the workers' once both train."""
    folder = write_shapes(tmp_path / "in", each=24)
    words = [sys.executable, "-m", "visionflows.cli", "train", folder, "--name", "shapes"]
    words += ["--arch", SMALL["architecture"], "--pretrained", "none", "--image-size", "32"]
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
    family = psutil.Process(process.pid).children(recursive=True)
    yield process, ranks_of(process.pid)
    # Only theirs: this process has other children, such as servers of other tests.
    for one in [*family, process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


def ranks_of(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children(recursive=True)
    return [one for one in children if "spawn_main" in " ".join(one.cmdline())]


def test_a_killed_worker_ends_the_training_within_seconds(training, tmp_path):
    process, ranks = training
    assert len(ranks) == 2
    ranks[1].send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == 1
    last = (tmp_path / "log").read_text().strip().splitlines()[-1]
    assert "worker 1 of 2: ended by SIGKILL" in last
    assert not any(one.is_running() for one in ranks)
    assert not [*(tmp_path / "store").glob("models/*")]
    assert not [*(tmp_path / "store").glob(".checkpoints/*/weights.safetensors")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_command(training, number):
    process, ranks = training
    process.send_signal(number)
    assert process.wait(timeout=60) != 0
    _, alive = psutil.wait_procs(ranks, timeout=60)
    assert not alive


SCRIPT = """
import atexit, sys, time
from visionflows.training.distributed import launch, worker
from visionflows.training.schedule import Schedule
from visionflows.training.settings import TrainSettings

def no_memory(number, job, messages):
    import torch
    atexit.register(time.sleep, 60)  # as NCCL may, when it is left to close itself
    raise torch.cuda.OutOfMemoryError("CUDA out of memory")

worker._train = no_memory  # in the workers too, which import this file

def main():
    settings = TrainSettings(gpus=2)
    job = worker.TrainingJob(None, "", (), Schedule(settings, 1e-3), sys.argv[1])
    launch.run_workers(job, None)

"""


def last_word(script: str, folder: Path) -> str:
    (folder / "script.py").write_text(script)
    words = [sys.executable, folder / "script.py", folder]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=40)
    return ended.stderr.splitlines()[-1]


def test_a_worker_without_memory_reports_it_and_ends_at_once(tmp_path):
    word = last_word(SCRIPT + "if __name__ == '__main__':\n    main()\n", tmp_path)
    assert word.endswith("OutOfMemoryError: CUDA out of memory")


def test_the_error_of_a_script_that_trains_at_import_suggests_a_main_guard(tmp_path):
    word = last_word(SCRIPT + "main()\n", tmp_path)
    assert "TrainError: worker " in word
    assert "a script that trains needs if __name__ == '__main__':" in word
