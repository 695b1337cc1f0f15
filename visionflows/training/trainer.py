"""A trainer: makes learners of a file table and trains them, on one device or on several GPUs.

Import this module inside functions only, as fastai takes seconds to import.
"""

import dataclasses
import functools
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from fastai.callback.training import GradientAccumulation
from fastai.learner import Learner

from visionflows.datasets.file_table import fingerprint
from visionflows.hashing import sha256_of
from visionflows.label_sets import all_classes, is_multi_label
from visionflows.training.distributed.launch import images_per_worker, train_on_workers
from visionflows.training.distributed.worker import TrainingJob
from visionflows.training.epoch_snapshots import SNAPSHOT, Note, SnapshotFile
from visionflows.training.epochs import train_epochs
from visionflows.training.learner import make_learner, prepare_training
from visionflows.training.pretrained_weights import weights_sha256
from visionflows.training.schedule import OnProgress, Schedule
from visionflows.training.settings import TrainSettings

log = logging.getLogger("visionflows.fine_tune")


@dataclasses.dataclass(frozen=True)
class Trained:
    """A learner with its final weights, and the record of how it got them.

    `history` has a row per epoch, `rate` is their base learning rate, and `curve` gave that rate. A
    linear probe has none of these. With several labels, `thresholds` are those of each class, of
    probabilities that are not calibrated.
    """

    learn: Learner
    history: Sequence[dict[str, Any]] = ()
    rate: float = 0.0
    curve: dict[str, Any] | None = None
    selection: dict[str, Any] | None = None
    thresholds: Sequence[float] = ()


@dataclasses.dataclass(frozen=True)
class Trainer:
    """What is trained and how; makes learners and trains them.

    `checkpoint` is a folder, `snapshots` a folder or an s3:// URI.
    """

    table: pd.DataFrame
    folder: str | Path
    checkpoint: str | Path
    settings: TrainSettings
    snapshots: str | Path
    on_progress: OnProgress | None = None

    @functools.cached_property
    def classes(self) -> list[str]:
        """The sorted labels of the usable images."""
        return all_classes(self.table[self.table.status == "ok"].label, self.multi_label)

    @property
    def multi_label(self) -> bool:
        """Whether an image has several labels."""
        return is_multi_label(self.table)

    def stage(self, start: float, end: float) -> "Trainer":
        """The same trainer, whose progress is a part of the whole, between two shares."""

        def report(share: float, line: str) -> None:
            if self.on_progress:
                self.on_progress(start + share * (end - start), line)

        return dataclasses.replace(self, on_progress=report)

    def learner(self, table: pd.DataFrame | None = None) -> Learner:
        """Return a new learner of the table, or of another one, with the initial weights."""
        table = self.table if table is None else table
        learn = make_learner(table, self.folder, self.settings, self.classes)
        prepare_training(learn, self.settings)
        return learn

    def fit(
        self,
        learn: Learner,
        table: pd.DataFrame,
        name: str,
        keep_best: bool = False,
        stop_after: int = 0,
    ) -> Trained:
        """Train the learner of a table; `name` is that of its snapshots, see Schedule."""
        parts = [self.settings.model_dump(), keep_best, stop_after, fingerprint(table)]
        parts += [self.classes, weights_sha256(self.settings.pretrained)]
        key = sha256_of(json.dumps(parts, sort_keys=True).encode())
        location = os.fspath(self.snapshots)
        snapshots = SnapshotFile(location, f"{name}{SNAPSHOT}", key)
        with learn.no_bar(), learn.no_logging():
            curve = self._learning_rates(learn, Note(location, f"{name}.lr_find", key))
            rate = curve["suggested"] if curve else float(self.settings.lr or 0)
            schedule = Schedule(self.settings, rate, keep_best, stop_after, snapshots)
            if self.settings.gpus == 1:
                history = train_epochs(learn, schedule, self.on_progress)
            else:
                job = TrainingJob(table, os.fspath(self.folder), self.classes, schedule)
                history = train_on_workers(learn, job, self.on_progress)
        return Trained(learn, history, rate, curve)

    def _learning_rates(self, learn: Learner, note: Note) -> dict[str, Any] | None:
        """The curve of the learning rate finder, if the settings ask for it."""
        if self.settings.lr != "find":
            return None
        curve: dict[str, Any] | None = note.read()
        if curve is None:
            curve = find_learning_rate(learn, self.settings.gpus)
            note.write(curve)
        return curve


def find_learning_rate(learn: Learner, gpus: int) -> dict[str, Any]:
    """Return fastai's lr_find: its `rates`, their `losses`, and the rate `suggested` by `valley`.

    For several GPUs one GPU does the search here: it accumulates each step from one worker's
    share at a time, so the rate fits the whole step and the memory fits a share.
    """
    loader, batch_size = learn.dls.train, learn.dls.bs
    loader.bs = images_per_worker(batch_size, gpus)
    accumulation = [GradientAccumulation(loader.bs * gpus)] if gpus > 1 else []
    path = learn.path
    with tempfile.TemporaryDirectory() as folder, learn.added_cbs(accumulation):
        learn.path = Path(folder)  # lr_find writes weights below it: not into the working folder
        rate = float(learn.lr_find(show_plot=False, num_it=100 * gpus).valley)
    loader.bs, learn.path = batch_size, path
    log.info("lr_find: base learning rate %.2g", rate)
    return {
        "rates": [float(one) for one in learn.recorder.lrs],
        "losses": [float(one) for one in learn.recorder.losses],
        "suggested": rate,
    }
