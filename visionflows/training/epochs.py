"""The epochs of a training: fastai's fine_tune with logging, the best weights, early stopping."""

import functools
import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from visionflows.errors import TrainError
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch
    from fastai.callback.core import Callback
    from fastai.learner import Learner

log = logging.getLogger("visionflows.fine_tune")

# Called with the share of the work that is done, 0 to 1, and a line about it.
OnProgress = Callable[[float, str], None]


def train_epochs(
    learn: "Learner", settings: TrainSettings, rate: float, on_progress: OnProgress | None
) -> list[dict[str, Any]]:
    """Freeze, one cycle, unfreeze, one cycle; return the history, one row per epoch.

    Raises TrainError if the validation loss is not finite.
    """
    monitor = _monitor_class()(settings, on_progress)
    learn.add_cb(monitor)
    if settings.frozen_epochs:
        learn.fine_tune(
            settings.epochs, rate, freeze_epochs=settings.frozen_epochs, lr_mult=settings.lr_mult
        )
    else:  # fastai's fine_tune without its frozen half, which needs at least one epoch
        learn.unfreeze()
        learn.fit_one_cycle(settings.epochs, slice(rate / settings.lr_mult, rate), div=5.0)
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
def _monitor_class() -> "type[Callback]":
    """Return a fastai callback: history and log of each epoch, best weights, early stopping."""
    from fastai.callback.core import Callback, CancelFitException
    from fastai.torch_core import get_model

    class EpochMonitor(Callback):  # type: ignore[misc]  # fastai has no types
        order = 65  # after the recorder (50) has the epoch's metrics, as fastai's own trackers

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
                self._report(len(self.history) + (self.iter + 1) / self.n_iter * 0.9)

        def after_epoch(self) -> None:
            row = self._row()
            self.history.append(row)
            log.info("%s", _format_row(row, self.total))
            self._report(len(self.history))
            self._track_best(row)
            patience = self.settings.patience
            if not math.isfinite(row["valid_loss"]):
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
            return {
                "epoch": len(self.history),
                "phase": "frozen" if self.opt.frozen_idx > 0 else "unfrozen",
                **{name: float(value) for name, value in zip(names, values, strict=True)},
                "seconds": round(time.monotonic() - self.epoch_started, 1),
            }

        def _track_best(self, row: dict[str, Any]) -> None:
            # The loss breaks ties between epochs with the same error rate.
            score = row["error_rate"] + 1e-6 * min(row["valid_loss"], 1e3)
            self.since_best = 0 if score < self.best else self.since_best + 1
            if score < self.best:
                self.best = score
                if self.settings.keep == "best":
                    state = get_model(self.learn.model).state_dict()  # without DDP's wrapper
                    self.best_state = {key: value.cpu().clone() for key, value in state.items()}

    return EpochMonitor


def _format_row(row: dict[str, Any], total: int) -> str:
    names = ("train_loss", "valid_loss", "error_rate")
    metrics = ", ".join(f"{name} {row[name]:.4f}" for name in names if name in row)
    return f"epoch {row['epoch'] + 1}/{total} ({row['phase']}): {metrics}, {row['seconds']:.0f} s"
