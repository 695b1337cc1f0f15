"""Launch the worker processes of a distributed training and wait for them.

    visionflows train pets/ --name pets --gpus 4
    ACCELERATE_USE_CPU=true visionflows train pets/ --name pets --gpus 2      # gloo, on the CPU

Workers send their messages over pipes and leave the weights in a temporary folder. Evaluating and
publishing stay in this process.
"""

import contextlib
import dataclasses
import logging
import math
import multiprocessing
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionflows.errors import SettingsError, TrainError
from visionflows.training.distributed.worker import INITIAL, WEIGHTS, TrainingJob, run_worker
from visionflows.training.epoch_snapshots import SnapshotFile
from visionflows.training.pretrained_weights import weights_bytes
from visionflows.training.schedule import OnProgress

if TYPE_CHECKING:
    from fastai.learner import Learner

POLL_SECONDS = 0.2
GRACE_SECONDS = 3.0  # for the other workers to end by themselves after one failed
# A worker imports the script that started it; a script that trains at import never gets there.
GUARD_ADVICE = "a script that trains needs if __name__ == '__main__':"


def check_gpus(wanted: int) -> None:
    """Check that this machine has so many GPUs. Raises SettingsError."""
    if wanted == 1:
        return
    if find_spec("accelerate") is None:
        raise SettingsError(f"gpus {wanted}: needs accelerate; pip install 'visionflows[train]'")
    import torch

    available, on_cpu = torch.cuda.device_count(), _is_cpu_requested()
    if available and on_cpu:
        raise SettingsError(
            f"gpus {wanted}: ACCELERATE_USE_CPU is set and torch finds {available} on this "
            "machine; unset it, or hide them: CUDA_VISIBLE_DEVICES="
        )
    if wanted > available and not on_cpu:
        raise SettingsError(
            f"gpus {wanted}: torch finds {available} on this machine; give --gpus "
            f"{max(available, 1)}, or without a GPU ACCELERATE_USE_CPU=true for as many processes "
            "on the CPU"
        )


def _is_cpu_requested() -> bool:
    """Return whether ACCELERATE_USE_CPU is set, as Accelerate reads it."""
    from accelerate.utils.environment import parse_flag_from_env

    try:
        return bool(parse_flag_from_env("ACCELERATE_USE_CPU"))
    except ValueError as error:
        raise SettingsError(f"ACCELERATE_USE_CPU: {error}; give true or false") from None


def images_per_worker(images: int, gpus: int) -> int:
    """Return a worker's share of a step's images.

    Raises TrainError if each of several workers would get fewer than two.
    """
    if gpus > 1 and images // gpus < 2:
        raise TrainError(
            f"gpus {gpus}: {images} images a step are fewer than two for each; give "
            "more images, a larger --batch-size, or fewer --gpus"
        )
    return images // gpus


def train_on_workers(
    learn: "Learner", job: TrainingJob, on_progress: OnProgress | None
) -> list[dict[str, Any]]:
    """Train with `settings.gpus` workers from the weights of `learn`, and load the result into it.

    Returns the history. Sets the batch size of the job and its shared folder. Raises TrainError if
    a worker dies, and the visionflows error that a worker raised.
    """
    from safetensors.torch import load_file

    stored = job.schedule.snapshots
    per_worker = images_per_worker(learn.dls.bs, job.settings.gpus)
    settings = job.settings.model_copy(update={"batch_size": per_worker})
    with tempfile.TemporaryDirectory(prefix="visionflows-") as folder, _off_gpu(learn):
        Path(folder, INITIAL).write_bytes(weights_bytes(learn.model))
        shared = stored and stored.copy(folder)
        schedule = dataclasses.replace(job.schedule, settings=settings, snapshots=shared)
        report = (
            _copying(shared, stored.location, on_progress) if stored and shared else on_progress
        )
        history = run_workers(job._replace(schedule=schedule, shared_folder=folder), report)
        learn.model.load_state_dict(load_file(Path(folder, WEIGHTS)))
    return history


def _copying(shared: SnapshotFile, location: str, on_progress: OnProgress | None) -> OnProgress:
    """Return a function that copies each new snapshot to the store, and reports the progress.

    The workers write snapshots into their shared folder, and then send their progress. They may
    not have the credentials of the store.
    """
    path = Path(shared.location, shared.name)
    copied = _changed(path)

    def report(share: float, line: str) -> None:
        nonlocal copied
        if (changed := _changed(path)) != copied:
            copied = changed
            shared.copy(location)
        if on_progress:
            on_progress(share, line)

    return report


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


@contextlib.contextmanager
def _off_gpu(learn: "Learner") -> Iterator[None]:
    """Inside the block the learner uses no memory of the GPU on which worker 0 trains."""
    import torch

    learn.opt = None  # fastai makes a new one when it needs one
    learn.model.zero_grad()
    learn.model.cpu()
    torch.cuda.empty_cache()
    yield
    learn.model.to(learn.dls.device)


def run_workers(job: TrainingJob, on_progress: OnProgress | None) -> list[dict[str, Any]]:
    """Run the workers to their end and return the history that worker 0 sent."""
    workers = [_Worker(number, job, on_progress) for number in range(job.settings.gpus)]
    try:
        for worker in workers:
            worker.start()
        if failed := _wait_for_workers(workers):
            raise failure_error(failed, workers)
        return workers[0].history
    finally:
        for worker in workers:
            worker.kill()


class _Worker:
    """A worker process and the messages it has sent."""

    def __init__(self, number: int, job: TrainingJob, on_progress: OnProgress | None):
        # Not torch.multiprocessing.spawn: interrupted while it starts, it loses its processes.
        context = multiprocessing.get_context("spawn")
        self._messages, self._sender = context.Pipe(duplex=False)
        self.process = context.Process(target=run_worker, args=(number, job, self._sender))
        self.label = f"worker {number} of {job.settings.gpus}"
        self.history: list[dict[str, Any]] = []
        self.error: Exception | str = ""  # to be raised as it is, or described
        self._on_progress = on_progress

    def start(self) -> None:
        self.process.start()
        self._sender.close()

    def kill(self) -> None:
        if self.process.pid:
            self.process.kill()
            self.process.join()

    def handle_messages(self) -> None:
        """Log lines, report progress, and keep the history or the error that has arrived."""
        for kind, *values in self._received():
            if kind == "log":
                name, level, line = values
                logging.getLogger(name).log(level, "%s", line)
            elif kind == "progress" and self._on_progress:
                self._on_progress(*values)
            elif kind == "history":
                (self.history,) = values
            elif kind == "error":
                (self.error,) = values

    def _received(self) -> Iterator[tuple[Any, ...]]:
        try:
            while self._messages.poll():
                yield self._messages.recv()
        except (EOFError, OSError):
            return  # it has ended, or was killed while sending


def _wait_for_workers(workers: Sequence[_Worker]) -> _Worker | None:
    """Wait until all have ended, or GRACE_SECONDS after the first failure; return that worker."""
    failed: _Worker | None = None
    deadline = math.inf
    while time.monotonic() < deadline:
        running = [worker for worker in workers if worker.process.exitcode is None]
        for worker in workers:
            worker.handle_messages()
        ended_badly = (worker for worker in workers if worker.process.exitcode)
        if not failed and (failed := next(ended_badly, None)):
            deadline = time.monotonic() + GRACE_SECONDS
        if not running:
            break
        wait([worker.process.sentinel for worker in running], POLL_SECONDS)
    return failed


def failure_error(failed: _Worker, workers: Sequence[_Worker]) -> Exception:
    """Return the error to raise: one of ours, else a signal, else the first that was reported.

    When a worker dies the others lose their connection to it, and may be seen to fail first.
    """
    ordered = [failed, *(worker for worker in workers if worker is not failed)]
    for worker in ordered:
        if isinstance(worker.error, Exception):
            return worker.error
    for worker in ordered:
        code = worker.process.exitcode
        if code and code < 0:
            return _unpublished(worker, f"ended by {signal.Signals(-code).name}")
    worker = next((worker for worker in ordered if worker.error), failed)
    silent = f"exit code {worker.process.exitcode} without a message; {GUARD_ADVICE}"
    return _unpublished(worker, str(worker.error or silent))


def _unpublished(worker: _Worker, reason: str) -> TrainError:
    advice = "run again; --gpus 1 may report more"
    if worker.process.exitcode == -signal.SIGKILL:  # the system sends it when memory is short
        advice = "memory may be short; run again with smaller batches or fewer --gpus"
    return TrainError(f"{worker.label}: {reason}; nothing was published: {advice}")
