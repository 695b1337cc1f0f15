"""A trainer: makes learners of a file table and trains them, on one device or on several GPUs."""

import dataclasses
import functools
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionflows.training.distributed.launch import images_per_worker, train_on_workers
from visionflows.training.distributed.worker import TrainingJob
from visionflows.training.epochs import OnProgress, Schedule, train_epochs
from visionflows.training.learner import make_learner, prepare_training
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd
    from fastai.learner import Learner

log = logging.getLogger("visionflows.fine_tune")


@dataclasses.dataclass(frozen=True)
class Trainer:
    """What is trained and how; makes learners and trains them. `checkpoint` is a folder."""

    table: "pd.DataFrame"
    folder: str | Path
    checkpoint: str | Path
    settings: TrainSettings
    on_progress: OnProgress | None = None

    @functools.cached_property
    def classes(self) -> list[str]:
        """The sorted labels of the usable images."""
        return sorted(self.table[self.table.status == "ok"].label.unique())

    def learner(self, table: "pd.DataFrame | None" = None) -> "Learner":
        """Return a new learner of the table, or of another one, with the initial weights."""
        table = self.table if table is None else table
        learn = make_learner(table, self.folder, self.settings, self.classes)
        prepare_training(learn, self.settings)
        return learn

    def fit(
        self, learn: "Learner", table: "pd.DataFrame", schedule: Schedule
    ) -> list[dict[str, Any]]:
        """Train the learner of a table as scheduled; return the history, a row per epoch."""
        with learn.no_bar(), learn.no_logging():
            if self.settings.gpus == 1:
                return train_epochs(learn, schedule, self.on_progress)
            job = TrainingJob(table, os.fspath(self.folder), self.classes, schedule)
            return train_on_workers(learn, job, self.on_progress)

    def base_rate(self, learn: "Learner") -> float:
        """Return the base learning rate; the settings may ask to find it."""
        if self.settings.lr != "find":
            return float(self.settings.lr or 0)
        with learn.no_bar(), learn.no_logging():
            return find_learning_rate(learn, self.settings.gpus)


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
