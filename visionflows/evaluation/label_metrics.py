"""Metrics of several labels a photo: mean average precision, F1, exact match, those of each class.

Average precision is the mean precision over the images of a class, in the order of its probability
(as scikit-learn's average_precision_score); it needs no threshold.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, combinations, product
from typing import Any

import numpy as np

from visionflows.evaluation.metrics import ClassCounts, class_metrics, share_interval

# The names of `label_summary`.
LABEL_METRICS = ("error_rate", "accuracy", "macro_f1", "micro_f1", "mean_average_precision")
Pairs = list[list[int]]  # a pair of classes, and its images


def label_summary(decided: np.ndarray, targets: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """error_rate, accuracy (exact match), macro_f1, micro_f1 and mean_average_precision.

    All are (n, classes): labels that were given (bool), labels that are right (bool), and the
    probabilities. A class without images has no average precision, and one that is also never
    given has no F1.
    """
    right, predicted, actual = _count(decided, targets)
    exact, seen = (decided == targets).all(1), actual + predicted > 0
    f1 = 2 * right[seen] / (actual + predicted)[seen]
    precisions = [one for one in average_precisions(scores, targets) if one is not None]
    accuracy = float(exact.mean()) if len(exact) else 0.0
    values = (
        *(1 - accuracy, accuracy, float(f1.mean()) if len(f1) else 0.0),
        float(2 * right.sum() / max((actual + predicted).sum(), 1)),
        float(np.mean(precisions)) if precisions else 0.0,
    )
    return dict(zip(LABEL_METRICS, values, strict=True))


def label_log_losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The mean binary log loss of the classes of each image (n,), for logits (n, classes)."""
    return np.asarray((np.logaddexp(0, logits) - targets * logits).mean(1))


def average_precisions(scores: np.ndarray, targets: np.ndarray) -> list[float | None]:
    """The average precision of each class; None for a class without images."""
    columns = zip(scores.T, targets.T, strict=True)
    return [_average_precision(*column) if column[1].any() else None for column in columns]


def _average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], np.cumsum(targets[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # of images with equal scores
    precision, recall = (right / np.arange(1, len(right) + 1))[last], right[last] / right[-1]
    return float(precision @ np.diff(recall, prepend=0.0))


def compute_label_metrics(
    decided: np.ndarray,
    targets: np.ndarray,
    scores: np.ndarray,
    classes: Sequence[str],
    groups: np.ndarray,
) -> dict[str, Any]:
    """The metrics of `label_summary`, and as `compute_metrics` gives them of one label a photo.

    Images with the same number in `groups` (n,) count as one in intervals. `by_class` has the
    average precision too. `confusion` and `together` are those of `Metrics`.
    """
    _, at, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    votes, exact = 1 / sizes[at], (decided == targets).all(1)
    counts, weighted = _count(decided, targets), _count(decided, targets, votes)
    rows = class_metrics(counts, weighted, classes)
    found = zip(rows, average_precisions(scores, targets), strict=True)
    return {
        **label_summary(decided, targets, scores),
        **share_interval("interval", float(exact.sum()), len(exact), float(votes.sum())),
        "by_class": [row | {"average_precision": value} for row, value in found],
        "confusion": _confused(decided, targets),
        "together": _pairs(combinations(_indices(row), 2) for row in targets),
    }


def _count(
    decided: np.ndarray, targets: np.ndarray, votes: np.ndarray | None = None
) -> ClassCounts:
    each = decided & targets, decided, targets
    return ClassCounts(*(one.sum(0) if votes is None else votes @ one for one in each))


def _confused(decided: np.ndarray, targets: np.ndarray) -> Pairs:
    """Images with a class right, or without one class and wrongly with another one."""
    right = ((at, at) for row in decided & targets for at in _indices(row))
    both = zip(targets & ~decided, decided & ~targets, strict=True)
    confused = (product(_indices(missed), _indices(wrong)) for missed, wrong in both)
    return _pairs(chain([right], confused))


def _indices(row: np.ndarray) -> list[int]:
    found: list[int] = np.flatnonzero(row).tolist()
    return found


def _pairs(each: Iterable[Iterable[tuple[int, int]]]) -> Pairs:
    counts = Counter(pair for pairs in each for pair in pairs)
    return [[*pair, images] for pair, images in sorted(counts.items())]
