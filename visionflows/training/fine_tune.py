"""Fine-tune a network on a labelled file table: fastai's `learn.fine_tune`, as a batch job.

    from visionflows.training.fine_tune import fine_tune
    fine_tune(table, "store/datasets/pets-5c1a3d0f", Path("draft"), TrainSettings(epochs=3))

What it leaves in the draft folder: `weights.safetensors` and, last, `training.json`.
"""

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
from visionflows.training.distributed.launch import share_of, train_on_workers
from visionflows.training.distributed.worker import TrainingJob
from visionflows.training.epochs import OnProgress, train_epochs
from visionflows.training.learner import make_learner, normalisation, torch_random_lock
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
    checkpoint: Path,
    settings: TrainSettings,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """The record of a training (training.json): settings, history, summary, device, seconds.

    On a GPU where there is one, or on `settings.gpus` of them. Running out of GPU memory halves
    the batch and starts again. The same seed gives the same weights, whatever other threads draw
    from Python's and numpy's generators; torch's are the process's, so that of two trainings in it
    one waits. Raises TrainError where even a batch of two does not fit, the loss is no number, or
    one of several GPUs' processes dies.
    """
    started = time.monotonic()
    while True:
        try:
            with torch_random_lock, keep_freed_memory():
                learn, record = _run(table, folder, settings, on_progress)
            break
        except _out_of_memory() as error:
            settings = _halved(settings, error)
    record |= {"seconds": round(time.monotonic() - started, 1)}
    _write_checkpoint(LocalStorage(checkpoint), learn, record)
    return record


def _run(
    table: "pd.DataFrame",
    folder: str | Path,
    settings: TrainSettings,
    on_progress: OnProgress | None,
) -> tuple["Learner", dict[str, Any]]:
    learn = make_learner(table, folder, settings)
    precision = enable_mixed_precision(learn, settings)
    with learn.no_bar(), learn.no_logging():
        learn.freeze_to(-1)
        summary = str(learn.summary())
        share_of(learn.dls.bs, settings.gpus)
        rate = _found_rate(learn, settings.gpus) if settings.lr == "find" else float(settings.lr)
        if settings.gpus == 1:
            history = train_epochs(learn, settings, rate, on_progress)
        else:
            training = TrainingJob(table, os.fspath(folder), settings, rate)
            history = train_on_workers(learn, training, on_progress)
    mean, std = normalisation(settings.architecture)
    count = settings.gpus
    return learn, {
        "settings": settings.model_dump(),
        "classes": list(learn.dls.vocab),
        "normalise": {"mean": list(mean), "std": list(std)},
        "base_lr": rate,
        "freeze_epochs": settings.frozen_epochs,
        "batch_size": learn.dls.bs // count * count,
        "device": device_name(learn.dls.device, count),
        "mixed_precision": precision,
        "history": history,
        "summary": summary,
    }


def _found_rate(learn: "Learner", gpus: int) -> float:
    """fastai's lr_find, valley rule (its own default), with the steps that the training has.

    Where several GPUs will share a step out, one has it here, share by share: the rate is that of
    the whole step, and the memory that of a share.
    """
    from fastai.callback.training import GradientAccumulation

    loader, whole = learn.dls.train, learn.dls.bs
    each = share_of(whole, gpus)
    loader.bs = each
    with learn.added_cbs([GradientAccumulation(each * gpus)] if gpus > 1 else []):
        rate = float(learn.lr_find(show_plot=False, num_it=100 * gpus).valley)
    loader.bs = whole
    log.info("lr_find: base learning rate %.2g", rate)
    return rate


def _out_of_memory() -> type[Exception]:
    import torch

    return torch.cuda.OutOfMemoryError


def _halved(settings: TrainSettings, error: Exception) -> TrainSettings:
    import torch

    batch = settings.batch_size // 2
    if batch < 2 * settings.gpus:
        raise TrainError(
            "GPU memory does not hold a batch of two images; give a smaller --image-size or --arch"
        ) from error
    torch.cuda.empty_cache()
    log.warning("out of GPU memory: starting again with a batch of %d", batch)
    return settings.model_copy(update={"batch_size": batch})


def device_name(device: "torch.device", count: int = 1) -> str:
    """A device in words: the GPU's name, or the number of cores; and how many processes use it."""
    import torch

    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}" + (f" × {count}" if count > 1 else "")
    return f"cpu: {cores()} cores" + (f", {count} processes" if count > 1 else "")


def _write_checkpoint(checkpoint: LocalStorage, learn: "Learner", record: dict[str, Any]) -> None:
    from safetensors.torch import save

    state = {
        key: value.detach().cpu().contiguous() for key, value in learn.model.state_dict().items()
    }
    weights = save(state)
    checkpoint.write("weights.safetensors", weights)
    # Last, and of these weights: what is torn is not taken for a training (training/draft.py).
    record = {**record, "weights_sha256": sha256_of(weights)}
    checkpoint.write("training.json", json.dumps(record, indent=2).encode())
