"""The epochs of a training: fastai's one-cycle, frozen and unfrozen, and what happens after each.

Import this module inside functions only, as fastai takes seconds to import.
"""

import logging
import math
import random
import time
from typing import Any

import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.learner import Learner
from fastai.torch_core import get_model, rank_distrib, set_seed
from torch.nn.modules.batchnorm import _BatchNorm

from visionflows.errors import TrainError
from visionflows.training.epoch_snapshots import BEST, NETWORK, Snapshot
from visionflows.training.schedule import OnProgress, Schedule
from visionflows.training.selection import Candidate

log = logging.getLogger("visionflows.fine_tune")


def train_epochs(
    learn: Learner, schedule: Schedule, on_progress: OnProgress | None
) -> list[dict[str, Any]]:
    """Train as scheduled; return the history, one row per epoch.

    Resumes from the schedule's snapshot if there is one. Raises TrainError if the validation loss
    is not finite.
    """
    snapshot = schedule.snapshots.read() if schedule.snapshots else None
    monitor = EpochMonitor(schedule, on_progress, snapshot)
    monitor.loader = learn.dls.train  # now: for several GPUs a callback wraps it
    done = len(monitor.history)
    if snapshot:
        log.info("resuming after epoch %d of %d", done, schedule.total)
    if snapshot and snapshot.is_finished:
        learn.model.load_state_dict(snapshot.tensors_of(NETWORK))
    else:
        learn.add_cb(monitor)
        _run(learn, schedule, done)
        learn.remove_cb(monitor)
    history: list[dict[str, Any]] = monitor.history
    loss = history[-1]["valid_loss"]
    if not math.isfinite(loss):
        raise TrainError(
            f"epoch {len(history)}: the validation loss is {loss}; give a smaller --lr"
        )
    if monitor.best_state:
        learn.model.load_state_dict(monitor.best_state)
    return history


def _run(learn: Learner, schedule: Schedule, done: int) -> None:
    """Train the epochs after the first `done` ones.

    As fastai's fine_tune does: freeze, one cycle, unfreeze, one cycle; or only the latter.
    """
    settings, rate, mult = schedule.settings, schedule.rate, schedule.settings.lr_mult
    options: dict[str, Any] = {"div": 5.0} if settings.head == "fastai" else {}
    if schedule.frozen_epochs:
        learn.freeze()
        if done < schedule.frozen_epochs:
            only_head = {"pct_start": 0.99, "start_epoch": done}
            learn.fit_one_cycle(schedule.frozen_epochs, slice(rate), **only_head)
        rate, options = rate / 2, {"pct_start": 0.3, "div": 5.0}
    elif settings.head != "fastai":
        options = {"cbs": FrozenBatchNorm()}
    learn.unfreeze()
    first = max(done - schedule.frozen_epochs, 0)
    rates = slice(rate / mult, rate)
    learn.fit_one_cycle(schedule.unfrozen_epochs, rates, start_epoch=first, **options)


class FrozenBatchNorm(Callback):  # type: ignore[misc]  # fastai has no types
    """Batch norm keeps the statistics of the pretrained network."""

    def before_train(self) -> None:
        for layer in self.learn.model.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()


class EpochMonitor(Callback):  # type: ignore[misc]  # fastai has no types
    """History, log and snapshot of each epoch, best weights, and early stopping."""

    order = 65  # after the recorder (50) has the epoch's metrics, as fastai's own trackers

    def __init__(
        self, schedule: Schedule, on_progress: OnProgress | None, snapshot: Snapshot | None
    ):
        self.schedule, self.on_progress, self.snapshot = schedule, on_progress, snapshot
        self.total = schedule.total
        self.history: list[dict[str, Any]] = []
        self.best_state: dict[str, torch.Tensor] = {}
        self.best, self.since_best = (math.inf, True, math.inf), 0
        for row in snapshot.history if snapshot else ():
            self.history.append(row)
            self._track_best(row)
        if snapshot and schedule.keep_best:
            self.best_state = snapshot.tensors_of(BEST)

    def before_epoch(self) -> None:
        self.epoch_started = time.monotonic()
        self.number = self.epoch + (0 if self._is_frozen else self.schedule.frozen_epochs)
        if self.snapshot and self.number == len(self.history):
            # A one-cycle begins with a new optimizer state.
            self.snapshot.restore(self.learn, only_weights=self.epoch == 0)
            self.snapshot = None
        self._seed()

    def _seed(self) -> None:
        """Make the random draws of an epoch those of its number, also after a resume.

        Several workers augment differently; the order of the images is that of worker 0.
        """
        draw = random.Random(f"{self.schedule.settings.seed} {rank_distrib()} {self.number}")
        set_seed(draw.getrandbits(32), reproducible=True)
        self.loader.rng = draw

    def after_batch(self) -> None:
        if self.training and self.iter % max(self.n_iter // 10, 1) == 0:
            self._report(len(self.history) + (self.iter + 1) / self.n_iter * 0.9)

    def after_epoch(self) -> None:
        if self.number < len(self.history):
            return  # skipped: an earlier run trained it
        row = self._row()
        self.history.append(row)
        log.info("%s", _format_row(row, self.total))
        if self._track_best(row) and self.schedule.keep_best:
            state = get_model(self.learn.model).state_dict()  # without DDP's wrapper
            self.best_state = {key: value.cpu().clone() for key, value in state.items()}
        if not math.isfinite(row["valid_loss"]):
            raise CancelFitException
        stops = self._stops(row)
        self._write_snapshot(stops)
        self._report(len(self.history))
        if stops:
            raise CancelFitException

    def _stops(self, row: dict[str, Any]) -> bool:
        patience = self.schedule.settings.patience
        if len(self.history) == self.total:
            return True
        if patience and row["phase"] == "unfrozen" and self.since_best >= patience:
            log.info("stopped early: no improvement in the last %d epochs", patience)
            return True
        return False

    def _write_snapshot(self, is_finished: bool) -> None:
        if self.schedule.snapshots and not rank_distrib():
            snapshot = Snapshot.take(self.learn, self.history, is_finished)
            best = {BEST + name: value for name, value in self.best_state.items()}
            snapshot.tensors |= {name: value.contiguous() for name, value in best.items()}
            self.schedule.snapshots.write(snapshot)

    def _report(self, epochs: float) -> None:
        if self.on_progress:
            line = f"epoch {min(int(epochs) + 1, self.total)} of {self.total}"
            self.on_progress(min(epochs / self.total, 1.0), line)

    @property
    def _is_frozen(self) -> bool:
        return bool(self.opt.frozen_idx > 0)

    def _row(self) -> dict[str, Any]:
        names, values = self.recorder.metric_names[1:-1], self.learn.final_record
        row = {name: float(value) for name, value in zip(names, values, strict=True)}
        return {
            "epoch": len(self.history),
            "phase": "frozen" if self._is_frozen else "unfrozen",
            **row,
            "seconds": round(time.monotonic() - self.epoch_started, 1),
        }

    def _track_best(self, row: dict[str, Any]) -> bool:
        """Whether an epoch is the best so far. One that trains only the head never is."""
        if row["phase"] == "frozen":
            return False
        loss = Candidate.of_epoch(row).loss(self.schedule.settings.deciding_metric)
        is_best = loss < self.best
        self.since_best = 0 if is_best else self.since_best + 1
        self.best = loss if is_best else self.best
        return is_best


def _format_row(row: dict[str, Any], total: int) -> str:
    metric = "mean_average_precision" if "mean_average_precision" in row else "error_rate"
    names = ("train_loss", "valid_loss", metric)
    metrics = ", ".join(f"{name} {row[name]:.4f}" for name in names if name in row)
    return f"epoch {row['epoch'] + 1}/{total} ({row['phase']}): {metrics}, {row['seconds']:.0f} s"
