"""Fine-tune a network on a labelled file table: fastai's `learn.fine_tune`, as a batch job.

    from visionflows.training.fine_tune import fine_tune
    fine_tune(table, "store/datasets/pets-5c1a3d0f", Path("draft"), TrainSettings(epochs=3))

What it leaves in the draft folder: `weights.safetensors` and, last, `training.json`.
"""

import functools
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionflows.digest import sha256_of
from visionflows.errors import TrainError
from visionflows.machine import cores
from visionflows.places.local import LocalPlace
from visionflows.training.learner import make_learner, normalisation, torch_draws
from visionflows.training.memory import kept_memory
from visionflows.training.mixed import mixed_precision
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from fastai.callback.core import Callback
    from fastai.learner import Learner

log = logging.getLogger("visionflows.fine_tune")

# Called with the share of the work that is done, 0 to 1, and a line about it.
OnProgress = Callable[[float, str], None]


def fine_tune(
    table: "pd.DataFrame",
    folder: str | Path,
    draft: Path,
    settings: TrainSettings,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """The record of a training (training.json): settings, history, summary, device, seconds.

    On a GPU where there is one. Running out of GPU memory halves the batch and starts again.
    The same seed gives the same weights, whatever other threads draw from Python's and numpy's
    generators; torch's are the process's, so that of two trainings in it one waits.
    Raises TrainError where even a batch of two does not fit, or the loss is no number.
    """
    started = time.monotonic()
    while True:
        try:
            with torch_draws, kept_memory():
                learn, record = _run(table, folder, settings, on_progress)
            break
        except _out_of_memory() as error:
            settings = _halved(settings, error)
    record |= {"seconds": round(time.monotonic() - started, 1)}
    _write_draft(LocalPlace(draft), learn, record)
    return record


def _run(
    table: "pd.DataFrame",
    folder: str | Path,
    settings: TrainSettings,
    on_progress: OnProgress | None,
) -> tuple["Learner", dict[str, Any]]:
    learn = make_learner(table, folder, settings)
    precision = mixed_precision(learn, settings)
    with learn.no_bar(), learn.no_logging():
        learn.freeze_to(-1)
        summary = str(learn.summary())
        rate = _found_rate(learn) if settings.lr == "find" else float(settings.lr)
        history = _train(learn, settings, rate, on_progress)
    mean, std = normalisation(settings.architecture)
    return learn, {
        "settings": settings.model_dump(),
        "classes": list(learn.dls.vocab),
        "normalise": {"mean": list(mean), "std": list(std)},
        "base_lr": rate,
        "freeze_epochs": settings.frozen_epochs,
        "batch_size": learn.dls.bs,
        "device": device_name(learn.dls.device),
        "mixed_precision": precision,
        "history": history,
        "summary": summary,
    }


def _train(
    learn: "Learner", settings: TrainSettings, rate: float, on_progress: OnProgress | None
) -> list[dict[str, Any]]:
    """Freeze, one cycle, unfreeze, one cycle; returns a row an epoch."""
    watch = _watch_class()(settings, on_progress)
    learn.add_cb(watch)
    if settings.frozen_epochs:
        learn.fine_tune(
            settings.epochs, rate, freeze_epochs=settings.frozen_epochs, lr_mult=settings.lr_mult
        )
    else:  # fastai's fine_tune without its frozen half, which cannot be of no epochs
        learn.unfreeze()
        learn.fit_one_cycle(settings.epochs, slice(rate / settings.lr_mult, rate), div=5.0)
    learn.remove_cb(watch)
    last = watch.history[-1]
    if not math.isfinite(last["valid_loss"]):
        raise TrainError(
            f"epoch {len(watch.history)}: the validation loss is {last['valid_loss']}; "
            "give a smaller --lr"
        )
    if watch.best_state is not None:
        learn.model.load_state_dict(watch.best_state)
    history: list[dict[str, Any]] = watch.history
    return history


@functools.cache
def _watch_class() -> "type[Callback]":
    """A fastai callback: a line and a history row an epoch, the best weights, early stopping."""
    from fastai.callback.core import Callback, CancelFitException

    class Watch(Callback):  # type: ignore[misc]  # fastai has no types
        order = 65  # after the recorder (50) has the epoch's figures, as fastai's own trackers

        def __init__(self, settings: TrainSettings, on_progress: OnProgress | None):
            self.settings, self.on_progress = settings, on_progress
            self.total = settings.frozen_epochs + settings.epochs
            self.history: list[dict[str, Any]] = []
            self.best_state: dict[str, torch.Tensor] | None = None
            self.best, self.since_best = math.inf, 0

        def before_epoch(self) -> None:
            self.epoch_started = time.monotonic()

        def after_batch(self) -> None:
            if self.training and self.iter % max(self.n_iter // 10, 1) == 0:
                self._tell(len(self.history) + (self.iter + 1) / self.n_iter * 0.9)

        def after_epoch(self) -> None:
            row = self._row()
            self.history.append(row)
            log.info("%s", _line(row, self.total))
            self._tell(len(self.history))
            self._keep(row)
            patience = self.settings.patience
            if not math.isfinite(row["valid_loss"]):
                raise CancelFitException
            if patience and row["phase"] == "unfrozen" and self.since_best >= patience:
                log.info("stopped early: no better epoch in the last %d", patience)
                raise CancelFitException

        def _tell(self, epochs: float) -> None:
            if self.on_progress:
                line = f"epoch {min(int(epochs) + 1, self.total)} of {self.total}"
                self.on_progress(min(epochs / self.total, 1.0), line)

        def _row(self) -> dict[str, Any]:
            names, values = self.recorder.metric_names[1:-1], self.learn.final_record
            return {
                "epoch": len(self.history),
                "phase": "frozen" if self.opt.frozen_idx > 0 else "unfrozen",
                **{name: float(value) for name, value in zip(names, values, strict=True)},
                "seconds": round(time.monotonic() - self.epoch_started, 1),
            }

        def _keep(self, row: dict[str, Any]) -> None:
            # The loss breaks ties between epochs with the same error rate.
            score = row["error_rate"] + 1e-6 * min(row["valid_loss"], 1e3)
            self.since_best = 0 if score < self.best else self.since_best + 1
            if score < self.best:
                self.best = score
                if self.settings.keep == "best":
                    state = self.learn.model.state_dict()
                    self.best_state = {key: value.cpu().clone() for key, value in state.items()}

    return Watch


def _line(row: dict[str, Any], total: int) -> str:
    figures = ", ".join(
        f"{name} {row[name]:.4f}"
        for name in ("train_loss", "valid_loss", "error_rate")
        if name in row
    )
    return f"epoch {row['epoch'] + 1}/{total} ({row['phase']}): {figures}, {row['seconds']:.0f} s"


def _found_rate(learn: "Learner") -> float:
    """fastai's lr_find, valley rule (its own default)."""
    rate = float(learn.lr_find(show_plot=False).valley)
    log.info("lr_find: base learning rate %.2g", rate)
    return rate


def _out_of_memory() -> type[Exception]:
    import torch

    return torch.cuda.OutOfMemoryError


def _halved(settings: TrainSettings, error: Exception) -> TrainSettings:
    import torch

    batch = settings.batch_size // 2
    if batch < 2:
        raise TrainError(
            "GPU memory does not hold a batch of two images; give a smaller --image-size or --arch"
        ) from error
    torch.cuda.empty_cache()
    log.warning("out of GPU memory: starting again with a batch of %d", batch)
    return settings.model_copy(update={"batch_size": batch})


def device_name(device: "torch.device") -> str:
    """A device in words: the GPU's name, or the number of cores."""
    import torch

    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {cores()} cores"


def _write_draft(draft: LocalPlace, learn: "Learner", record: dict[str, Any]) -> None:
    from safetensors.torch import save

    state = {
        key: value.detach().cpu().contiguous() for key, value in learn.model.state_dict().items()
    }
    weights = save(state)
    draft.write("weights.safetensors", weights)
    # Last, and of these weights: what is torn is not taken for a training (training/draft.py).
    record = {**record, "weights_sha256": sha256_of(weights)}
    draft.write("training.json", json.dumps(record, indent=2).encode())
