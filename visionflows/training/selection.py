"""Selection: training images held out to choose between the candidates of a training.

A candidate is the linear probe or an epoch of the fine-tuning. Candidates are compared on the
selection images. The validation images judge the one that is chosen, and choose nothing.
"""

import dataclasses
import logging
import warnings
from typing import Any, get_args

import numpy as np
import pandas as pd

from visionflows.datasets.group_split import draw_groups
from visionflows.datasets.split import near_duplicate_ids
from visionflows.evaluation.label_metrics import label_log_losses, label_summary
from visionflows.evaluation.metrics import count_classes, log_losses, summary_metrics
from visionflows.label_sets import by_class, is_multi_label
from visionflows.training.settings import Metric

log = logging.getLogger("visionflows.recipes")

METRICS = get_args(Metric)
PROBE = "linear probe"
PARTS = 5  # of the training images; one is the selection part
MAX_IMAGES = 2000  # in it: more would tell candidates apart that hardly differ
# With fewer errors of the probe on the selection images no candidate can be shown to be better:
# 5 against 0 has p = 0.03 in the exact one-sided McNemar test, 4 against 0 has 0.06.
MIN_ERRORS = 5


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A candidate with its metrics on the selection images, by name."""

    name: str
    metrics: dict[str, float]

    @classmethod
    def of_probe(cls, logits: np.ndarray, targets: np.ndarray) -> "Candidate":
        """The linear probe with these logits (n, classes) for images of these classes.

        `targets` are (n,), or with several labels bool (n, classes).
        """
        if targets.ndim == 2:
            metrics, losses = label_summary(logits >= 0, targets, logits), label_log_losses
        else:
            counts = count_classes(logits.argmax(1), targets, logits.shape[1])
            metrics, losses = summary_metrics(counts), log_losses
        loss = float(losses(logits, targets).mean()) if len(targets) else 0.0
        return cls(PROBE, {**metrics, "log_loss": loss})

    @classmethod
    def of_epoch(cls, row: dict[str, Any]) -> "Candidate":
        """The candidate of an epoch, by its row of the history."""
        metrics = {name: row[name] for name in METRICS if name in row}
        return cls(f"epoch {row['epoch'] + 1}", {**metrics, "log_loss": row["valid_loss"]})

    def loss(self, metric: Metric) -> tuple[float, bool, float]:
        """Return what to minimize: the error by this metric.

        In a tie the probe is better than an epoch, and of two epochs the one with less log loss.
        """
        value = self.metrics[metric]
        error = value if metric == "error_rate" else 1 - value
        return error, self.name != PROBE, self.metrics["log_loss"]


@dataclasses.dataclass
class Selection:
    """The candidates of a training, compared by a metric on so many images."""

    metric: Metric
    images: int
    candidates: list[Candidate]
    why: str = ""

    @property
    def best(self) -> Candidate:
        """The best candidate by the metric."""
        return min(self.candidates, key=lambda one: one.loss(self.metric))

    def can_improve(self) -> bool:
        """Whether another candidate could be shown to be better than the first; if not, `why`."""
        errors = round(self.candidates[0].metrics["error_rate"] * self.images)
        if errors >= MIN_ERRORS:
            return True
        self.why = (
            f"the {self.candidates[0].name} has {errors} errors on {self.images} selection images; "
            f"fine-tuning can be shown to be better only if there are {MIN_ERRORS} or more"
        )
        return False

    def as_dict(self) -> dict[str, Any]:
        """Return `selection` of model.json."""
        candidates = [{"name": one.name, **one.metrics} for one in self.candidates]
        return {
            **{"metric": self.metric, "images": self.images, "candidates": candidates},
            **{"published": self.best.name, "why": self.why},
        }


def split_for_selection(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the usable training rows of a file table; `is_valid` marks the selection images.

    A fifth of every class, about 2,000 images at most; near-duplicates and groups stay on one side.
    A class with one image, or one group, is only trained on. If no group can be held out, they are
    separated. Of too few images none is held out.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    usable = table[(table.status == "ok") & ~table.is_valid.astype(bool)].reset_index(drop=True)
    several, has_groups = is_multi_label(usable), bool((usable.group != "").any())
    images = int(by_class(usable).label.value_counts().max())
    parts = min(max(PARTS, len(usable) // MAX_IMAGES), images)
    chosen = np.zeros(len(usable), bool)
    if has_groups or (several and parts > 1):
        chosen = draw_groups(usable, 1 / parts, seed).to_numpy().copy()
        if has_groups and not chosen.any():
            log.warning("note: selection images share groups with training images: all are in one")
    if parts > 1 and not chosen.any():
        folds = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than parts
            chosen[next(folds.split(usable, usable.label, near_duplicate_ids(usable)))[1]] = True
    known = several | usable.label.isin(set(usable.label[~chosen]))  # stratification sees to it
    return usable.assign(is_valid=chosen & known)
