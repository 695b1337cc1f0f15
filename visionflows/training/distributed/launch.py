"""A training on several GPUs of this machine: a process for each, fastai's distributed context.

    visionflows train pets/ --name pets --gpus 4
    ACCELERATE_USE_CPU=true visionflows train pets/ --name pets --gpus 2      # gloo, on the CPU

Each process, a rank, has its share of every batch; torch's DistributedDataParallel keeps their
weights one. Judging and publishing are left to the process that started them. What they have to
say lies in a temporary folder: a file is whole or not there, whoever is killed meanwhile.
"""

import contextlib
import json
import logging
import multiprocessing
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionflows import errors
from visionflows.errors import SettingsError, TrainError
from visionflows.training.distributed.worker import (
    TOLD,
    TRAINED,
    TrainingJob,
    error_file,
    run_worker,
)
from visionflows.training.epochs import OnProgress

if TYPE_CHECKING:
    from fastai.learner import Learner

OFTEN = 0.2  # seconds between two looks at what the ranks say
GRACE = 3.0  # seconds in which the ranks that are left may end by themselves
# A rank imports the script that started it, and where that trains at once it never begins.
GUARDED = "a script that trains does it under if __name__ == '__main__':"


def check_gpus(wanted: int) -> None:
    """Nothing, if a training can have so many GPUs. Raises SettingsError."""
    if wanted == 1:
        return
    if find_spec("accelerate") is None:
        raise SettingsError(f"gpus {wanted}: needs accelerate; pip install 'visionflows[train]'")
    import torch

    there, on_cpu = torch.cuda.device_count(), _on_cpu()
    if there and on_cpu:
        raise SettingsError(
            f"gpus {wanted}: ACCELERATE_USE_CPU is set and torch sees {there} on this machine; "
            "unset it, or hide them: CUDA_VISIBLE_DEVICES="
        )
    if wanted > there and not on_cpu:
        raise SettingsError(
            f"gpus {wanted}: torch sees {there} on this machine; give --gpus {max(there, 1)}, or "
            "where there are none ACCELERATE_USE_CPU=true for so many processes on the CPU"
        )


def _on_cpu() -> bool:
    """Whether Accelerate is told to leave GPUs alone, as it reads that itself."""
    from accelerate.utils.environment import parse_flag_from_env

    try:
        return bool(parse_flag_from_env("ACCELERATE_USE_CPU"))
    except ValueError as error:
        raise SettingsError(f"ACCELERATE_USE_CPU: {error}; give true or false") from None


def share_of(images: int, gpus: int) -> int:
    """How many of a step's images a GPU has. Raises TrainError if several have fewer than two."""
    if gpus > 1 and images // gpus < 2:
        raise TrainError(
            f"gpus {gpus}: {images} images a step are fewer than two for each; give "
            "more images, a larger --batch-size, or fewer --gpus"
        )
    return images // gpus


def train_on_workers(
    learn: "Learner", training: TrainingJob, on_progress: OnProgress | None
) -> list[dict[str, Any]]:
    """The history, a row an epoch, of a training by `settings.gpus` ranks; `learn` has its weights.

    `training.settings.batch_size` and `training.folder` are set here. Raises TrainError where a
    rank dies, or has fewer than two images a step, and what a rank raises of our own.
    """
    settings = training.settings
    each = share_of(learn.dls.bs, settings.gpus)
    with tempfile.TemporaryDirectory(prefix="visionflows-") as folder, _set_aside(learn):
        own = settings.model_copy(update={"batch_size": each})
        _run_workers(training._replace(settings=own, folder=folder), on_progress)
        told = json.loads(Path(folder, TOLD).read_bytes())
        _load(learn, Path(folder, TRAINED))
    history: list[dict[str, Any]] = told["history"]
    return history


@contextlib.contextmanager
def _set_aside(learn: "Learner") -> Iterator[None]:
    """For the block, a learner that takes no memory of the GPU on which rank 0 trains."""
    import torch

    learn.opt = None  # its state; fastai makes another when one is needed
    learn.model.zero_grad()
    learn.model.cpu()
    torch.cuda.empty_cache()
    yield
    learn.model.to(learn.dls.device)


def _load(learn: "Learner", weights: Path) -> None:
    from safetensors.torch import load_file

    learn.model.load_state_dict(load_file(weights))


def _run_workers(training: TrainingJob, on_progress: OnProgress | None) -> None:
    # Not torch's spawn, whose processes nobody has where it is interrupted.
    spawned, numbers = multiprocessing.get_context("spawn"), range(training.settings.gpus)
    ranks = [spawned.Process(target=run_worker, args=(number, training)) for number in numbers]
    told = _Heard(Path(training.folder), on_progress)
    try:
        for rank in ranks:
            rank.start()
        failed = _failed(ranks, told.look)
        told.look()
        if failed is not None:
            raise _reason(_codes(ranks), Path(training.folder), failed)
    finally:
        for rank in ranks:
            if rank.pid:
                rank.kill()
                rank.join()


def _failed(ranks: Sequence[BaseProcess], look: Callable[[], None]) -> int | None:
    """The first rank that is seen to fail; None when all have come to their end."""
    left = dict(enumerate(ranks))
    while left:
        wait([rank.sentinel for rank in left.values()], OFTEN)
        for number, rank in [*left.items()]:
            if rank.exitcode:
                return number
            if rank.exitcode == 0:
                del left[number]
        look()
    return None


def _codes(ranks: Sequence[BaseProcess]) -> list[int]:
    """How the ranks ended, after a while in which they may; 0 of those that have not."""
    until = time.monotonic() + GRACE
    for rank in ranks:
        rank.join(max(until - time.monotonic(), 0))
    return [rank.exitcode or 0 for rank in ranks]


class _Heard:
    """Passes on what rank 0 has said since the last look."""

    def __init__(self, folder: Path, on_progress: OnProgress | None):
        self._file, self._on_progress = folder / TOLD, on_progress
        self._lines, self._progress = 0, None

    def look(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            told = json.loads(self._file.read_bytes())
            for name, level, line in told["log"][self._lines :]:
                logging.getLogger(name).log(level, "%s", line)
            self._lines = len(told["log"])
            if self._on_progress and told["progress"] != self._progress:
                self._on_progress(*told["progress"])
            self._progress = told["progress"]


def _reason(codes: list[int], folder: Path, first: int) -> Exception:
    """Why the ranks ended: our own word, else a signal, else what the first said that failed.

    When one dies, the others fail for want of it, and may be the first that are seen to.
    """
    ranks = [first, *(rank for rank in range(len(codes)) if rank != first)]
    told = {rank: told for rank in ranks if (told := _told_by(folder, rank))}
    known = _known_errors()
    for kind, text in told.values():
        if kind in known:
            return known[kind](text)
    for rank in ranks:
        if codes[rank] < 0:
            return _ended_by(signal.Signals(-codes[rank]), f"rank {rank} of {len(codes)}")
    kind, text = next(iter(told.values()), ("", ""))
    text = f"{kind}: {text}" if kind else f"it ended with {codes[first]} and no word; {GUARDED}"
    return TrainError(
        f"rank {next(iter(told), first)} of {len(codes)}: {text}; nothing was published: --gpus 1 "
        "may say more"
    )


def _ended_by(number: signal.Signals, rank: str) -> TrainError:
    if number == signal.SIGKILL:
        return TrainError(
            f"{rank} was ended by {number.name} (the system does that where memory is short); "
            "nothing was published: run again, with smaller batches or fewer --gpus"
        )
    return TrainError(
        f"{rank} was ended by {number.name}; nothing was published: run again; --gpus 1 may say "
        "more"
    )


def _told_by(folder: Path, rank: int) -> tuple[str, str] | None:
    with contextlib.suppress(FileNotFoundError):
        kind, text = json.loads((folder / error_file(rank)).read_bytes())
        return kind, text
    return None


def _known_errors() -> dict[str, type[Exception]]:
    """What a rank may raise that means something to whoever started it, by name."""
    import torch

    ours = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return {kind.__name__: kind for kind in (*ours, torch.cuda.OutOfMemoryError)}
