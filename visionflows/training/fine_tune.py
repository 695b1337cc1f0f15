"""Fine-tune a network on a labelled file table: fastai's `learn.fine_tune`, as a batch job."""

import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionflows.errors import TrainError
from visionflows.hashing import sha256_of
from visionflows.storage.local import LocalStorage
from visionflows.system import cores
from visionflows.training.allocator_settings import keep_freed_memory
from visionflows.training.dataloaders import normalisation
from visionflows.training.distributed.launch import images_per_worker, train_on_workers
from visionflows.training.distributed.worker import TrainingJob
from visionflows.training.epochs import OnProgress, train_epochs
from visionflows.training.learner import make_learner, torch_random_lock
from visionflows.training.mixed_precision import enable_mixed_precision
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from fastai.learner import Learner

log = logging.getLogger("visionflows.fine_tune")


def fine_tune(
    table: "pd.DataFrame",
    folder: str | Path,
    checkpoint: str | Path,
    settings: TrainSettings,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Train, write weights.safetensors and training.json into `checkpoint`, return the latter.

    Uses a GPU if there is one, or `settings.gpus` of them; halves the batch and starts again when
    GPU memory runs out. The same seed gives the same weights, whatever other threads draw from
    Python's and numpy's generators. Two trainings in one process run one after the other.

    Raises TrainError if a batch of two does not fit into GPU memory, if the loss is not finite,
    or if a worker process of a distributed training dies.
    """
    started = time.monotonic()
    while True:
        try:
            with torch_random_lock, keep_freed_memory():
                learn, record = _train(table, folder, settings, on_progress)
            break
        except _out_of_memory_error() as error:
            settings = _halve_batch(settings, error)
    record |= {"seconds": round(time.monotonic() - started, 1)}
    write_checkpoint(LocalStorage(checkpoint), learn, record)
    return record


def _train(
    table: "pd.DataFrame",
    folder: str | Path,
    settings: TrainSettings,
    on_progress: OnProgress | None,
) -> tuple["Learner", dict[str, Any]]:
    gpus = settings.gpus
    learn = make_learner(table, folder, settings)
    precision = enable_mixed_precision(learn, settings)
    with learn.no_bar(), learn.no_logging():
        learn.freeze_to(-1)
        summary = str(learn.summary())
        per_worker = images_per_worker(learn.dls.bs, gpus)
        rate = find_learning_rate(learn, gpus) if settings.lr == "find" else float(settings.lr)
        if gpus == 1:
            history = train_epochs(learn, settings, rate, on_progress)
        else:
            job = TrainingJob(table, os.fspath(folder), settings, rate)
            history = train_on_workers(learn, job, on_progress)
    mean, std = normalisation(settings.architecture)
    return learn, {
        "settings": settings.model_dump(),
        "classes": list(learn.dls.vocab),
        "normalise": {"mean": list(mean), "std": list(std)},
        "base_lr": rate,
        "freeze_epochs": settings.frozen_epochs,
        "batch_size": per_worker * gpus,
        "device": describe_device(learn.dls.device, gpus),
        "mixed_precision": precision,
        "history": history,
        "summary": summary,
    }


def find_learning_rate(learn: "Learner", gpus: int) -> float:
    """Return the rate of fastai's lr_find (its default, the valley rule).

    For several GPUs one GPU does the search here: it accumulates each step from one worker's
    share at a time, so the rate fits the whole step and the memory fits a share.
    """
    from fastai.callback.training import GradientAccumulation

    loader, batch_size = learn.dls.train, learn.dls.bs
    loader.bs = images_per_worker(batch_size, gpus)
    accumulation = [GradientAccumulation(loader.bs * gpus)] if gpus > 1 else []
    with learn.added_cbs(accumulation):
        rate = float(learn.lr_find(show_plot=False, num_it=100 * gpus).valley)
    loader.bs = batch_size
    log.info("lr_find: base learning rate %.2g", rate)
    return rate


def _out_of_memory_error() -> type[Exception]:
    import torch

    return torch.cuda.OutOfMemoryError


def _halve_batch(settings: TrainSettings, error: Exception) -> TrainSettings:
    import torch

    batch = settings.batch_size // 2
    if batch < 2 * settings.gpus:
        raise TrainError(
            "GPU memory does not hold a batch of two images; give a smaller --image-size or --arch"
        ) from error
    torch.cuda.empty_cache()
    log.warning("out of GPU memory: starting again with a batch of %d", batch)
    return settings.model_copy(update={"batch_size": batch})


def describe_device(device: "torch.device", processes: int = 1) -> str:
    """Return a device in words, such as `cpu: 4 cores` or `cuda: NVIDIA H200 × 2`."""
    import torch

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return f"cuda: {name}" + (f" × {processes}" if processes > 1 else "")
    return f"cpu: {cores()} cores" + (f", {processes} processes" if processes > 1 else "")


def write_checkpoint(checkpoint: LocalStorage, learn: "Learner", record: dict[str, Any]) -> None:
    """Write the weights, then training.json with their sha256, so a torn checkpoint is detected."""
    from safetensors.torch import save

    state = learn.model.state_dict()
    weights = save({key: value.detach().cpu().contiguous() for key, value in state.items()})
    checkpoint.write("weights.safetensors", weights)
    record = {**record, "weights_sha256": sha256_of(weights)}
    checkpoint.write("training.json", json.dumps(record, indent=2).encode())
