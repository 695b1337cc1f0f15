"""How the epochs of a training follow each other: fastai's one-cycle, frozen and unfrozen."""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from visionflows.training.settings import TrainSettings
from visionflows.training.snapshots import SnapshotFile

if TYPE_CHECKING:
    from fastai.callback.core import Callback
    from fastai.learner import Learner


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

    def run(self, learn: "Learner", done: int) -> None:
        """Train the epochs after the first `done` ones.

        As fastai's fine_tune does: freeze, one cycle, unfreeze, one cycle; or only the latter.
        """
        rate, mult = self.rate, self.settings.lr_mult
        options: dict[str, Any] = {"div": 5.0} if self.settings.head == "fastai" else {}
        if self.frozen_epochs:
            learn.freeze()
            if done < self.frozen_epochs:
                only_head = {"pct_start": 0.99, "start_epoch": done}
                learn.fit_one_cycle(self.frozen_epochs, slice(rate), **only_head)
            rate, options = rate / 2, {"pct_start": 0.3, "div": 5.0}
        elif self.settings.head != "fastai":
            options = {"cbs": _frozen_batch_norm_class()()}
        learn.unfreeze()
        first = max(done - self.frozen_epochs, 0)
        rates = slice(rate / mult, rate)
        learn.fit_one_cycle(self.unfrozen_epochs, rates, start_epoch=first, **options)


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
