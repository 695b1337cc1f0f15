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
import os
import signal
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionflows import errors
from visionflows.errors import SettingsError, TrainError
from visionflows.training.epochs import OnProgress
from visionflows.training.rank import TOLD, TRAINED, Training, error_file, run_rank

if TYPE_CHECKING:
    from fastai.learner import Learner
    from torch.multiprocessing.spawn import ProcessContext

OFTEN = 0.2  # seconds between two looks at what the ranks say
GRACE = 3.0  # seconds in which the ranks that are left may end by themselves


def check_gpus(wanted: int) -> None:
    """Nothing, if a training can have so many GPUs. Raises SettingsError."""
    if wanted == 1:
        return
    import torch

    there = torch.cuda.device_count()
    if wanted > there and (there or not _on_cpu()):
        raise SettingsError(
            f"gpus {wanted}: torch sees {there} on this machine; give --gpus {max(there, 1)}, or "
            "where there are none ACCELERATE_USE_CPU=true for so many processes on the CPU"
        )
    if find_spec("accelerate") is None:
        raise SettingsError(f"gpus {wanted}: needs accelerate; pip install 'visionflows[train]'")


def _on_cpu() -> bool:
    """Whether Accelerate is told to leave GPUs alone, in its own words."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")


def train_on_gpus(
    learn: "Learner", training: Training, on_progress: OnProgress | None
) -> list[dict[str, Any]]:
    """The history, a row an epoch, of a training by `settings.gpus` ranks; `learn` has its weights.

    `training.settings.batch_size` and `training.folder` are set here. Raises TrainError where a
    rank dies, or has fewer than two images a step, and what a rank raises of our own.
    """
    settings = training.settings
    each = learn.dls.bs // settings.gpus
    if each < 2:
        raise TrainError(
            f"gpus {settings.gpus}: {learn.dls.bs} images a step are fewer than two for each; give "
            "more images, a larger --batch-size, or fewer --gpus"
        )
    with tempfile.TemporaryDirectory(prefix="visionflows-") as folder:
        own = settings.model_copy(update={"batch_size": each})
        _run_ranks(training._replace(settings=own, folder=folder), on_progress)
        told = json.loads(Path(folder, TOLD).read_bytes())
        _load(learn, Path(folder, TRAINED))
    history: list[dict[str, Any]] = told["history"]
    return history


def _load(learn: "Learner", weights: Path) -> None:
    from safetensors.torch import load_file

    learn.model.load_state_dict(load_file(weights))


def _run_ranks(training: Training, on_progress: OnProgress | None) -> None:
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

    told = _Heard(Path(training.folder), on_progress)
    spawned = spawn(run_rank, (training,), training.settings.gpus, join=False)
    assert spawned is not None  # torch's types: it is None where it is joined
    try:
        while not spawned.join(timeout=OFTEN, grace_period=GRACE):
            told.look()
        told.look()
    except (ProcessRaisedException, ProcessExitedException) as error:
        told.look()
        raise _reason(spawned, Path(training.folder), error.error_index) from None
    finally:
        for process in spawned.processes:
            process.kill()


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


def _reason(spawned: "ProcessContext", folder: Path, first: int) -> Exception:
    """Why the ranks ended: our own word, else a signal, else what the first said that failed.

    When one dies, the others fail for want of it, and may be the first that are seen to.
    """
    count = len(spawned.processes)
    ranks = [first, *(rank for rank in range(count) if rank != first)]
    told = {rank: told for rank in ranks if (told := _told_by(folder, rank))}
    known = _known_errors()
    for kind, text in told.values():
        if kind in known:
            return known[kind](text)
    for rank in ranks:
        status = spawned.processes[rank].exitcode or 0
        if status < 0 and -status != signal.SIGTERM:
            name = signal.Signals(-status).name
            return TrainError(
                f"rank {rank} of {count} was ended by {name} (the system does that where memory is "
                "short); nothing was published: run again, with smaller batches or fewer --gpus"
            )
    kind, text = next(iter(told.values()), ("", "it ended without a word"))
    return TrainError(
        f"rank {next(iter(told), first)} of {count}: {f'{kind}: ' if kind else ''}{text}; nothing "
        "was published: --gpus 1 may say more"
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
