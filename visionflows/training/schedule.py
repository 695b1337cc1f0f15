"""How the epochs of a training follow each other: see visionflows.training.epochs."""

import dataclasses
from collections.abc import Callable

from visionflows.training.epoch_snapshots import SnapshotFile
from visionflows.training.settings import TrainSettings

# Called with the share of the work that is done, 0 to 1, and a line about it.
OnProgress = Callable[[float, str], None]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How epochs are trained; with `stop_after` the one-cycle ends early, after so many epochs."""

    settings: TrainSettings
    rate: float
    keep_best: bool = False
    stop_after: int = 0
    snapshots: SnapshotFile | None = None

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
