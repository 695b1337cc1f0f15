"""What a rank does: one of the processes that train a network together, each on a GPU of its own.

    torch.multiprocessing.spawn(run_rank, (Training(table, images, settings, 2e-3, folder),), 2)

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
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from visionflows.errors import VisionflowsError, one_line
from visionflows.machine import cores, share
from visionflows.places.local import LocalPlace
from visionflows.training.epochs import train_epochs
from visionflows.training.learner import make_learner
from visionflows.training.memory import kept_memory
from visionflows.training.mixed import mixed_precision
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd
    from fastai.data.core import TfmdDL
    from fastai.learner import Learner

OURS = logging.getLogger("visionflows")

TRAINED = "weights.safetensors"  # rank 0's, and the last that it writes
TOLD = "told.json"  # rank 0's: how far it is, what its log says, in the end its history


class Training(NamedTuple):
    """What the ranks train: `settings.batch_size` is a rank's own, `folder` where they tell."""

    table: "pd.DataFrame"
    images: str
    settings: TrainSettings
    rate: float
    folder: str = ""


def error_file(number: int) -> str:
    """Where a rank says what ended it: its kind and its text."""
    return f"error-{number}.json"


def run_rank(number: int, training: Training) -> None:
    """A rank's whole life. What ends it before its end is told in a file of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore", FutureWarning)  # torch's, of what it does itself
    try:
        with kept_memory(), _group(number, training):
            _train(number, training)
    except Exception as error:
        own = isinstance(error, VisionflowsError)
        text = str(error) if own else one_line(str(error).strip().partition("\n")[0])
        told = json.dumps([type(error).__name__, text])
        LocalPlace(Path(training.folder)).write(error_file(number), told.encode())
        raise


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def _group(number: int, training: Training) -> Iterator[None]:
    """This process as one of the ranks, which find each other by a file: no port, no host name."""
    import torch

    count, gpu = training.settings.gpus, torch.cuda.is_available()
    threads = max(cores() // count, 1)
    told = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ.update({name: str(value) for name, value in told.items()})
    os.environ["OMP_NUM_THREADS"] = str(threads)  # else Accelerate counts cores that are not ours
    share(threads, count)
    torch.set_num_threads(threads)
    if gpu:
        torch.cuda.set_device(number)
    meeting = f"file://{training.folder}/meeting"
    backend = "nccl" if gpu else "gloo"
    torch.distributed.init_process_group(backend, meeting, rank=number, world_size=count)
    yield
    torch.distributed.destroy_process_group()


def _train(number: int, training: Training) -> None:
    from fastai.torch_core import set_seed
    from safetensors.torch import save_file

    settings = training.settings
    learn = make_learner(training.table, training.images, settings)
    mixed_precision(learn, settings)
    OURS.propagate = False  # the process that started us says it, once
    told = _Telling(Path(training.folder)) if number == 0 else None
    # Weights and order are rank 0's. What is drawn for each image must not be the same on all.
    set_seed(settings.seed + number, reproducible=True)
    learn.dls.train.rng = random.Random(f"{settings.seed} {number}")
    with learn.no_bar(), learn.no_logging(), _distributed(learn):
        history = train_epochs(learn, settings, training.rate, told.progress if told else None)
    if told:
        told.ended(history)
        state = {name: value.cpu().contiguous() for name, value in learn.model.state_dict().items()}
        save_file(state, Path(training.folder, TRAINED))


@contextlib.contextmanager
def _distributed(learn: "Learner") -> Iterator[None]:
    """fastai's distributed context, which by itself shares images out by way of a GPU alone."""
    import torch
    from fastai.distributed import DistributedDL

    class SharedOut(DistributedDL):  # type: ignore[misc]  # fastai has no types
        def _broadcast(self, order: list[int], rank: int) -> list[int]:
            told = [order]
            torch.distributed.broadcast_object_list(told, rank)
            return told[0]

        def wif(self) -> None:
            """What a loader process does first: what it does for one GPU."""
            self.dl.wif()

    def shared_out(loader: "TfmdDL") -> DistributedDL:
        if isinstance(loader, DistributedDL):
            return loader
        return SharedOut(loader, device=learn.dls.device)

    gpu = learn.dls.device.type == "cuda"
    with learn.distrib_ctx(sync_bn=gpu, cpu=not gpu):  # a CPU has no batch norm over all ranks
        learn.distributed_trainer._wrap_dl = shared_out
        yield


class _Telling(logging.Handler):
    """Rank 0's word: how far it is, the lines of its log, and in the end its history."""

    def __init__(self, folder: Path):
        super().__init__()
        self._folder = LocalPlace(folder)
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
