"""The epochs of a training: fastai's one-cycle with logging, the best weights, early stopping."""

import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from visionflows.errors import TrainError
from visionflows.training.selection import Candidate
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch
    from fastai.callback.core import Callback
    from fastai.learner import Learner

log = logging.getLogger("visionflows.fine_tune")

# Called with the share of the work that is done, 0 to 1, and a line about it.
OnProgress = Callable[[float, str], None]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How epochs are trained; with `stop_after` the one-cycle ends early, after so many epochs."""

    settings: TrainSettings
    rate: float
    keep_best: bool = False
    stop_after: int = 0

    @property
    def frozen_epochs(self) -> int:
        return self.settings.freeze_epochs or 0

    @property
    def unfrozen_epochs(self) -> int:
        return self.settings.epochs or 1

    @property
    def total(self) -> int:
        """The epochs that are trained, if none is stopped early by patience."""
        return self.stop_after or self.frozen_epochs + self.unfrozen_epochs

    def run(self, learn: "Learner") -> None:
        """Train: freeze, one cycle, unfreeze, one cycle; or only the latter."""
        settings = self.settings
        if self.frozen_epochs:
            learn.fine_tune(
                *(self.unfrozen_epochs, self.rate),
                freeze_epochs=self.frozen_epochs,
                lr_mult=settings.lr_mult,
            )
            return
        learn.unfreeze()
        rates = slice(self.rate / settings.lr_mult, self.rate)
        if settings.head == "fastai":  # its fine_tune without the frozen half
            learn.fit_one_cycle(self.unfrozen_epochs, rates, div=5.0)
        else:
            learn.fit_one_cycle(self.unfrozen_epochs, rates, cbs=_frozen_batch_norm_class()())


def train_epochs(
    learn: "Learner", schedule: Schedule, on_progress: OnProgress | None
) -> list[dict[str, Any]]:
    """Train as scheduled; return the history, one row per epoch.

    Raises TrainError if the validation loss is not finite.
    """
    monitor = _monitor_class()(schedule, on_progress)
    learn.add_cb(monitor)
    schedule.run(learn)
    learn.remove_cb(monitor)
    history: list[dict[str, Any]] = monitor.history
    loss = history[-1]["valid_loss"]
    if not math.isfinite(loss):
        raise TrainError(
            f"epoch {len(history)}: the validation loss is {loss}; give a smaller --lr"
        )
    if monitor.best_state is not None:
        learn.model.load_state_dict(monitor.best_state)
    return history


@functools.cache
def _frozen_batch_norm_class() -> "type[Callback]":
    """Return a fastai callback: batch norm keeps the statistics of the pretrained network."""
    from fastai.callback.core import Callback
    from torch.nn.modules.batchnorm import _BatchNorm

    class FrozenBatchNorm(Callback):  # type: ignore[misc]  # fastai has no types
        def before_train(self) -> None:
            for layer in self.learn.model.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()

    return FrozenBatchNorm


@functools.cache
def _monitor_class() -> "type[Callback]":
    """Return a fastai callback: history and log of each epoch, best weights, early stopping."""
    from fastai.callback.core import Callback, CancelFitException
    from fastai.torch_core import get_model

    class EpochMonitor(Callback):  # type: ignore[misc]  # fastai has no types
        order = 65  # after the recorder (50) has the epoch's metrics, as fastai's own trackers

        def __init__(self, schedule: Schedule, on_progress: OnProgress | None):
            self.schedule, self.on_progress = schedule, on_progress
            self.total = schedule.total
            self.history: list[dict[str, Any]] = []
            self.best_state: dict[str, torch.Tensor] | None = None
            self.best, self.since_best = (math.inf, True, math.inf), 0

        def before_epoch(self) -> None:
            self.epoch_started = time.monotonic()

        def after_batch(self) -> None:
            if self.training and self.iter % max(self.n_iter // 10, 1) == 0:
                self._report(len(self.history) + (self.iter + 1) / self.n_iter * 0.9)

        def after_epoch(self) -> None:
            row = self._row()
            self.history.append(row)
            log.info("%s", _format_row(row, self.total))
            self._report(len(self.history))
            self._track_best(row)
            patience = self.schedule.settings.patience
            if not math.isfinite(row["valid_loss"]) or row["epoch"] + 1 == self.schedule.stop_after:
                raise CancelFitException
            if patience and row["phase"] == "unfrozen" and self.since_best >= patience:
                log.info("stopped early: no improvement in the last %d epochs", patience)
                raise CancelFitException

        def _report(self, epochs: float) -> None:
            if self.on_progress:
                line = f"epoch {min(int(epochs) + 1, self.total)} of {self.total}"
                self.on_progress(min(epochs / self.total, 1.0), line)

        def _row(self) -> dict[str, Any]:
            names, values = self.recorder.metric_names[1:-1], self.learn.final_record
            row = {name: float(value) for name, value in zip(names, values, strict=True)}
            return {
                "epoch": len(self.history),
                "phase": "frozen" if self.opt.frozen_idx > 0 else "unfrozen",
                **row,
                "seconds": round(time.monotonic() - self.epoch_started, 1),
            }

        def _track_best(self, row: dict[str, Any]) -> None:
            if row["phase"] == "frozen":  # an epoch of the head only is never published
                return
            loss = Candidate.of_epoch(row).loss(self.schedule.settings.metric)
            self.since_best = 0 if loss < self.best else self.since_best + 1
            if loss < self.best:
                self.best = loss
                if self.schedule.keep_best:
                    state = get_model(self.learn.model).state_dict()  # without DDP's wrapper
                    self.best_state = {key: value.cpu().clone() for key, value in state.items()}

    return EpochMonitor


def _format_row(row: dict[str, Any], total: int) -> str:
    names = ("train_loss", "valid_loss", "error_rate")
    metrics = ", ".join(f"{name} {row[name]:.4f}" for name in names if name in row)
    return f"epoch {row['epoch'] + 1}/{total} ({row['phase']}): {metrics}, {row['seconds']:.0f} s"
