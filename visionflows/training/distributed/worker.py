"""What a rank does: one of the processes that train a network together, each on a GPU of its own.

    training = TrainingJob(table, images, settings, 2e-3, folder)
    multiprocessing.get_context("spawn").Process(target=run_worker, args=(0, training)).start()

What it has to say lies in a folder: a file is whole or not there, whoever is killed meanwhile.
"""

import contextlib
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from visionflows.errors import VisionflowsError, one_line
from visionflows.storage.local import LocalStorage
from visionflows.system import cores, set_share
from visionflows.training.allocator_settings import keep_freed_memory
from visionflows.training.distributed.context import distributed_training
from visionflows.training.epochs import train_epochs
from visionflows.training.learner import make_learner
from visionflows.training.mixed_precision import enable_mixed_precision
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd
OURS = logging.getLogger("visionflows")

TRAINED = "weights.safetensors"  # rank 0's, and the last that it writes
TOLD = "told.json"  # rank 0's: how far it is, what its log says, in the end its history


class TrainingJob(NamedTuple):
    """What the ranks train: `settings.batch_size` is a rank's own, `folder` where they tell."""

    table: "pd.DataFrame"
    images: str
    settings: TrainSettings
    rate: float
    folder: str = ""


def error_file(number: int) -> str:
    """Where a rank says what ended it: its kind and its text."""
    return f"error-{number}.json"


def run_worker(number: int, training: TrainingJob) -> None:
    """A rank's whole life. What ends it before its end is told in a file of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore", FutureWarning)  # torch's, of what it does itself
    with _LastWord(number, training.folder), keep_freed_memory(), _group(number, training):
        _train(number, training)


class _LastWord:
    """Tells what ends a rank too early, and ends it: torch, left to close NCCL, may wait for it."""

    def __init__(self, number: int, folder: str):
        self._number, self._folder = number, folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Exception):
            own = isinstance(error, VisionflowsError)
            text = str(error) if own else one_line(str(error).strip().partition("\n")[0])
            told = json.dumps([type(error).__name__, text])
            LocalStorage(Path(self._folder)).write(error_file(self._number), told.encode())
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def _group(number: int, training: TrainingJob) -> Iterator[None]:
    """This process as one of the ranks, which find each other by a file: no port, no host name."""
    import torch

    count, gpu = training.settings.gpus, torch.cuda.is_available()
    threads = max(cores() // count, 1)
    told = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ.update({name: str(value) for name, value in told.items()})
    os.environ["OMP_NUM_THREADS"] = str(threads)  # else Accelerate counts cores that are not ours
    set_share(threads, count)
    torch.set_num_threads(threads)
    if gpu:
        torch.cuda.set_device(number)
    # Not by a file:// URL, which ends at a # or ? in a folder's name.
    file = os.path.join(training.folder, "meeting")
    meeting = torch.distributed.FileStore(file, count)  # type: ignore[attr-defined]
    backend = "nccl" if gpu else "gloo"
    torch.distributed.init_process_group(backend, store=meeting, rank=number, world_size=count)
    yield
    torch.distributed.destroy_process_group()


def _train(number: int, training: TrainingJob) -> None:
    from fastai.torch_core import set_seed
    from safetensors.torch import save_file

    settings = training.settings
    learn = make_learner(training.table, training.images, settings)
    enable_mixed_precision(learn, settings)
    OURS.propagate = False  # the process that started us says it, once
    told = _Telling(Path(training.folder)) if number == 0 else None
    # Weights and order are rank 0's. What is drawn for each image must not be the same on all.
    set_seed(settings.seed + number, reproducible=True)
    learn.dls.train.rng = random.Random(f"{settings.seed} {number}")
    with learn.no_bar(), learn.no_logging(), distributed_training(learn, settings.image_size):
        history = train_epochs(learn, settings, training.rate, told.progress if told else None)
    if told:
        told.ended(history)
        state = {name: value.cpu().contiguous() for name, value in learn.model.state_dict().items()}
        save_file(state, Path(training.folder, TRAINED))


class _Telling(logging.Handler):
    """Rank 0's word: how far it is, the lines of its log, and in the end its history."""

    def __init__(self, folder: Path):
        super().__init__()
        self._folder = LocalStorage(folder)
        self._told: dict[str, Any] = {"progress": None, "log": [], "history": []}
        OURS.setLevel(logging.INFO)
        OURS.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._told["log"].append([record.name, record.levelno, record.getMessage()])

    def progress(self, share: float, line: str) -> None:
        self._write(progress=[share, line])

    def ended(self, history: list[dict[str, Any]]) -> None:
        self._write(history=history)

    def _write(self, **told: Any) -> None:
        self._told |= told
        self._folder.write(TOLD, json.dumps(self._told).encode())
