"""Train a network on a labelled file table, and write its checkpoint."""

import json
import logging
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from visionflows.datasets.file_table import fingerprint
from visionflows.errors import TrainError
from visionflows.hashing import sha256_of
from visionflows.label_sets import is_multi_label
from visionflows.storage.local import LocalStorage
from visionflows.system import cores
from visionflows.training import torch_random_lock
from visionflows.training.allocator_settings import keep_freed_memory
from visionflows.training.distributed.launch import images_per_worker
from visionflows.training.epoch_snapshots import Note
from visionflows.training.pretrained_weights import normalisation, weights_bytes
from visionflows.training.schedule import OnProgress
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch
    from fastai.learner import Learner

log = logging.getLogger("visionflows.fine_tune")


def fine_tune(
    table: pd.DataFrame,
    folder: str | Path,
    checkpoint: str | Path,
    settings: TrainSettings,
    on_progress: OnProgress | None = None,
    snapshots: str | Path = "",
) -> dict[str, Any]:
    """Train, write weights.safetensors and training.json into `checkpoint`, return the latter.

    After each epoch a snapshot goes into `snapshots` (a folder or an s3:// URI; by default the
    checkpoint), and a training that finds its own resumes from it.
    Uses a GPU if there is one, or `settings.gpus` of them; halves the batch and starts again when
    GPU memory runs out. The same seed gives the same weights, even if other threads draw from
    Python's and numpy's generators. Two trainings in one process run one after the other.

    Raises TrainError if a batch of two does not fit into GPU memory, if the loss is not finite,
    or if a worker process of a distributed training dies.
    """
    started, settings = time.monotonic(), settings.resolved(is_multi_label(table))
    snapshots = snapshots or checkpoint
    fitting = _fitting_batch(table, settings, snapshots)
    settings = settings.model_copy(update={"batch_size": fitting.read() or settings.batch_size})
    while True:
        try:
            with torch_random_lock, keep_freed_memory():
                learn, record = _train(table, folder, checkpoint, settings, snapshots, on_progress)
            break
        except _out_of_memory_error() as error:
            settings = _halve_batch(settings, error)
            fitting.write(settings.batch_size)
    # An earlier run may have trained the first epochs.
    seconds = max(time.monotonic() - started, sum(row["seconds"] for row in record["history"]))
    record |= {"seconds": round(seconds, 1)}
    write_checkpoint(LocalStorage(checkpoint), learn, record)
    return record


def _fitting_batch(table: pd.DataFrame, settings: TrainSettings, snapshots: str | Path) -> Note:
    """Return the note on the batch that an earlier run found to fit into GPU memory."""
    key = sha256_of(f"{fingerprint(table)} {settings.model_dump_json()}".encode())
    return Note(os.fspath(snapshots), "batch_size", key)


def _train(*arguments: Any) -> tuple["Learner", dict[str, Any]]:
    """Return the learner and the record of a trainer with these arguments."""
    from visionflows.training.recipes import train_by_recipe
    from visionflows.training.trainer import Trainer

    trainer = Trainer(*arguments)
    settings, trained = trainer.settings, train_by_recipe(trainer)
    learn = trained.learn
    with learn.no_bar(), learn.no_logging():
        learn.freeze_to(-1)
        # Where a function lies in memory is no part of the record.
        summary = re.sub(r" at 0x[0-9a-f]+", "", str(learn.summary()))
    mean, std = normalisation(settings.architecture)
    gpus = settings.gpus if trained.history else 1  # a probe is no distributed training
    return learn, {
        "settings": settings.model_dump(),
        "classes": list(learn.dls.vocab),
        "normalise": {"mean": list(mean), "std": list(std)},
        "base_lr": trained.rate,
        "lr_find": trained.curve,
        "freeze_epochs": settings.freeze_epochs,
        "batch_size": images_per_worker(learn.dls.bs, gpus) * gpus,
        "device": describe_device(learn.dls.device, gpus),
        "mixed_precision": learn.mixed_precision,
        "history": [*trained.history],
        "selection": trained.selection,
        **({"thresholds": [*trained.thresholds]} if trainer.multi_label else {}),
        "summary": summary,
    }


def _out_of_memory_error() -> type[Exception]:
    import torch  # here, after its allocator settings

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
    weights = weights_bytes(learn.model)
    checkpoint.write("weights.safetensors", weights)
    record = {**record, "weights_sha256": sha256_of(weights)}
    checkpoint.write("training.json", json.dumps(record, indent=2).encode())
