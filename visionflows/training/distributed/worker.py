"""A worker of a distributed training: one of the processes that train a network together.

Each worker gets its share of every batch. torch's DistributedDataParallel averages the gradients;
on GPUs batch norm uses the images of all workers.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from visionflows.errors import VisionflowsError, one_line
from visionflows.system import cores, set_share
from visionflows.training.allocator_settings import keep_freed_memory
from visionflows.training.pretrained_weights import weights_bytes
from visionflows.training.schedule import Schedule
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch
    from fastai.data.core import TfmdDL
    from fastai.learner import Learner

INITIAL = "initial.safetensors"  # in the shared folder: the weights that the training starts from
WEIGHTS = "weights.safetensors"  # in the shared folder; worker 0 writes it last


class TrainingJob(NamedTuple):
    """What the workers train, from the weights in the shared folder.

    The batch size of the schedule's settings is each worker's own.
    """

    table: pd.DataFrame
    image_folder: str
    classes: Sequence[str]
    schedule: Schedule
    shared_folder: str = ""

    @property
    def settings(self) -> TrainSettings:
        return self.schedule.settings


def run_worker(number: int, job: TrainingJob, messages: Connection) -> None:
    """Train as worker `number`; send an error as a message and exit with 1."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process decides
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    warnings.simplefilter("ignore", FutureWarning)  # torch's, about its own code
    try:
        with keep_freed_memory(), process_group(number, job):
            _train(number, job, messages)
    except Exception as error:  # noqa: BLE001 (the parent raises it)
        messages.send(("error", _to_send(error)))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # a normal exit closes NCCL, which may wait for the other workers


def _to_send(error: Exception) -> Exception | str:
    """An error that the parent raises as it is, or the text of another."""
    import torch

    if isinstance(error, VisionflowsError):
        return error
    text = one_line(str(error).strip().partition("\n")[0])
    kind = type(error)
    return kind(text) if kind is torch.cuda.OutOfMemoryError else f"{kind.__name__}: {text}"


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def process_group(number: int, job: TrainingJob) -> Iterator[None]:
    """Inside the block this process is a rank of torch's process group.

    The ranks find each other by a file in the shared folder: no port, no host name.
    """
    import torch

    count, gpu = job.settings.gpus, torch.cuda.is_available()
    threads = max(cores() // count, 1)
    ranks = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ.update({name: str(value) for name, value in ranks.items()})
    os.environ["OMP_NUM_THREADS"] = str(threads)  # else Accelerate counts cores outside our cgroup
    set_share(threads, count)
    torch.set_num_threads(threads)
    if gpu:
        torch.cuda.set_device(number)
    # Not a file:// URL, which ends at a # or ? in the name of a folder.
    file = os.path.join(job.shared_folder, "process-group")
    store = torch.distributed.FileStore(file, count)  # type: ignore[attr-defined]
    backend = "nccl" if gpu else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=number, world_size=count)
    yield
    torch.distributed.destroy_process_group()


@contextlib.contextmanager
def distributed_training(learn: "Learner") -> Iterator[None]:
    """Inside the block the learner shares its network and images with the other workers.

    Needs the `process_group`.
    """
    from accelerate.utils import DistributedDataParallelKwargs

    from visionflows.training.distributed.sharded_loader import (  # gives Learner distrib_ctx too
        ShardedLoader,
    )

    gpu = learn.dls.device.type == "cuda"
    # Some weights may not affect the output: timm leaves a head in the body. torch finds them in
    # the first step; without this it would wait for their gradients.
    options = DistributedDataParallelKwargs(static_graph=True)
    if gpu:  # torch has no synchronised batch norm for CPUs
        if learn.opt is None:  # it must see the batch norm layers before they are converted
            learn.create_opt()
        learn.model = synchronise_batch_norm(learn.model)

    def shard(loader: "TfmdDL") -> ShardedLoader:
        is_sharded = isinstance(loader, ShardedLoader)
        return loader if is_sharded else ShardedLoader(loader, device=learn.dls.device)

    with learn.distrib_ctx(sync_bn=False, cpu=not gpu, kwargs_handlers=[options]):
        learn.distributed_trainer._wrap_dl = shard
        yield


def synchronise_batch_norm(network: "torch.nn.Module") -> "torch.nn.Module":
    """Return the network with batch norm over all workers; weights and names stay the same.

    Uses timm's converter if it is installed: torch's drops the activation of timm's own layers.
    """
    if find_spec("timm"):
        from timm.layers import convert_sync_batchnorm as convert  # type: ignore[attr-defined]
    else:
        from torch.nn import SyncBatchNorm

        convert = SyncBatchNorm.convert_sync_batchnorm
    converted: torch.nn.Module = convert(network)  # type: ignore[no-untyped-call]
    return converted


def _train(number: int, job: TrainingJob, messages: Connection) -> None:
    from safetensors.torch import load_file

    from visionflows.training.epochs import train_epochs
    from visionflows.training.learner import make_learner, prepare_training

    settings = job.settings
    learn = make_learner(job.table, job.image_folder, settings, job.classes)
    learn.model.load_state_dict(load_file(Path(job.shared_folder, INITIAL)))
    prepare_training(learn, settings)
    logging.getLogger("visionflows").propagate = False  # the parent logs, once
    reporter = _Reporter(messages) if number == 0 else None
    with learn.no_bar(), learn.no_logging(), distributed_training(learn):
        on_progress = reporter.report_progress if reporter else None
        history = train_epochs(learn, job.schedule, on_progress)
    if reporter:
        Path(job.shared_folder, WEIGHTS).write_bytes(weights_bytes(learn.model))
        reporter.send("history", history)


class _Reporter(logging.Handler):
    """Sends the log and the progress of worker 0 to the parent process."""

    def __init__(self, messages: Connection):
        super().__init__()
        self._messages, self._one_at_a_time = messages, threading.Lock()
        logger = logging.getLogger("visionflows")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def send(self, *message: object) -> None:
        with self._one_at_a_time:
            self._messages.send(message)

    def emit(self, record: logging.LogRecord) -> None:
        self.send("log", record.name, record.levelno, record.getMessage())

    def report_progress(self, share: float, line: str) -> None:
        self.send("progress", share, line)
