"""Distributed trainings that are refused or fail; others are in tests/e2e."""

import multiprocessing
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import CLASSES, SMALL, write_shapes
from safetensors.torch import save_file

from visionflows.datasets.file_table import build_table
from visionflows.errors import SettingsError, TrainError
from visionflows.training.distributed import launch
from visionflows.training.distributed.launch import check_gpus
from visionflows.training.distributed.worker import WEIGHTS, TrainingJob
from visionflows.training.epochs import train_epochs
from visionflows.training.fine_tune import fine_tune
from visionflows.training.learner import make_learner
from visionflows.training.schedule import Schedule
from visionflows.training.settings import TrainSettings


def test_fewer_than_two_images_per_worker_and_step_are_refused(tmp_path):
    folder = write_shapes(tmp_path / "in", each=2)
    table = build_table(folder, "folder", valid_pct=0.3)
    settings = TrainSettings(**SMALL, epochs=1, gpus=4)
    with pytest.raises(TrainError, match=r"gpus 4: . images a step are fewer than two for each"):
        fine_tune(table, folder, tmp_path / "checkpoint", settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs")
def test_more_gpus_than_available_are_refused_unless_on_the_cpu(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    check_gpus(1)
    with pytest.raises(SettingsError, match=r"gpus 2: torch finds 0 .*; give --gpus 1"):
        check_gpus(2)
    for word in ("true", "Y", "t", "1"):  # as Accelerate reads them
        monkeypatch.setenv("ACCELERATE_USE_CPU", word)
        check_gpus(2)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "perhaps")
    with pytest.raises(SettingsError, match=r"^ACCELERATE_USE_CPU: .*perhaps; give true or false$"):
        check_gpus(2)


def test_the_cpu_is_refused_if_there_are_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(SettingsError, match=r"torch finds 4 .*; unset it, or hide them: CUDA_VIS"):
        check_gpus(2)


def test_a_batch_without_memory_is_halved_down_to_two_images_a_gpu(tmp_path, monkeypatch):
    def no_memory(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("visionflows.training.trainer.train_on_workers", no_memory)
    folder = write_shapes(tmp_path / "in", each=4)
    table = build_table(folder, "folder", valid_pct=0.3)
    settings = TrainSettings(**SMALL, epochs=1, batch_size=8, gpus=2)
    with pytest.raises(TrainError, match="GPU memory does not hold a batch of two images"):
        fine_tune(table, folder, tmp_path / "checkpoint", settings)


def test_workers_find_the_first_gpu_empty_and_the_learner_works_afterwards(tmp_path, monkeypatch):
    folder = write_shapes(tmp_path / "in", each=4)
    table = build_table(folder, "folder", valid_pct=0.3)
    settings = TrainSettings(**SMALL, epochs=1, batch_size=8, gpus=2)
    learn = make_learner(table, folder, settings)
    with learn.no_bar(), learn.no_logging():
        train_epochs(learn, Schedule(settings, 1e-3), None)
        loss = learn.validate()[0]
        emptied, seen = [], []

        def run_workers(job, _):
            seen.append((learn.opt, [one.grad for one in learn.model.parameters()]))
            save_file(learn.model.state_dict(), Path(job.shared_folder, WEIGHTS))
            return []

        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(len(seen)))
        monkeypatch.setattr(launch, "run_workers", run_workers)
        job = TrainingJob(table, str(folder), CLASSES, Schedule(settings, 1e-3))
        launch.train_on_workers(learn, job, None)
        assert emptied == [0]
        assert seen[0][0] is None
        assert not any(one is not None for one in seen[0][1])
        assert learn.validate()[0] == pytest.approx(loss)


def reason(exit_codes: list[int], errors: dict[int, object], first: int = 0) -> Exception:
    """The error that is raised for workers with these exit codes and reported errors."""
    workers = [
        SimpleNamespace(
            process=SimpleNamespace(exitcode=code),
            error=errors.get(number, ""),
            label=f"worker {number} of 2",
        )
        for number, code in enumerate(exit_codes)
    ]
    return launch.failure_error(workers[first], workers)


def test_the_error_says_why_workers_failed():
    killed = str(reason([0, -signal.SIGKILL], {}, 1))
    assert "worker 1 of 2: ended by SIGKILL; nothing was published: memory may be short" in killed
    ended = str(reason([0, -signal.SIGSEGV], {}, 1))
    assert "worker 1 of 2: ended by SIGSEGV" in ended
    assert "memory" not in ended
    silent = str(reason([1, 0], {}))
    assert "worker 0 of 2: exit code 1 without a message; a script that trains needs" in silent
    other = reason([1, 1], {1: "ValueError: no"})
    assert "worker 1 of 2: ValueError: no; nothing was published" in str(other)
    ours = reason([1, 1], {0: TrainError("give a smaller --lr")})
    assert (type(ours), str(ours)) == (TrainError, "give a smaller --lr")
    memory = reason([1, 1], {0: torch.cuda.OutOfMemoryError("CUDA out of memory")})
    assert type(memory) is torch.cuda.OutOfMemoryError


def two_workers(folder: Path) -> TrainingJob:
    return TrainingJob(None, "", (), Schedule(TrainSettings(**SMALL, gpus=2), 1e-3), str(folder))


def test_a_worker_killed_before_the_process_group_forms_ends_all(tmp_path):
    def kill():
        while len(workers := multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        workers[0].kill()

    threading.Thread(target=kill, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(TrainError, match="of 2: ended by SIGKILL"):
        launch.run_workers(two_workers(tmp_path), None)
    assert time.monotonic() - began < 20
    assert not multiprocessing.active_children()


def test_workers_started_before_an_interruption_end(tmp_path, monkeypatch):
    start, started = multiprocessing.context.SpawnProcess._Popen, []

    def one_only(process):
        if started:
            raise KeyboardInterrupt
        started.append(process)
        return start(process)

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "_Popen", staticmethod(one_only))
    with pytest.raises(KeyboardInterrupt):
        launch.run_workers(two_workers(tmp_path), None)
    assert len(started) == 1
    assert not multiprocessing.active_children()
