"""A paired test for metrics that are no sum over images: balanced accuracy, F1, average precision.

Approximate randomization (E. Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989): if
both models were equally good, swapping their predictions for any image would make no difference.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from visionflows.evaluation.label_metrics import label_summary

# The significance level of a promotion. At 0.05, macro F1 promoted up to 7 of 100
# candidates that were trained the same way as production (bench/promotion.py).
ALPHA = 0.025
DRAWS = 10_000
ORDER_DRAWS = 2_000  # of average precisions, which sort the images in each draw
_CHUNK = 500  # draws at once


def class_scores(
    right: np.ndarray, predicted: np.ndarray, actual: np.ndarray, metric: str
) -> np.ndarray:
    """The metric, float (…,), of counts by class (…, classes): balanced_accuracy or macro_f1."""
    if metric == "balanced_accuracy":
        known = actual > 0
        return np.asarray((right[..., known] / actual[known]).mean(-1))
    total = actual + predicted
    f1 = np.divide(2 * right, total, out=np.zeros(np.shape(total)), where=total > 0)
    seen = (total > 0).sum(-1)
    return np.asarray(f1.sum(-1) / np.maximum(seen, 1))


def randomization_test(
    candidate: np.ndarray, production: np.ndarray, targets: np.ndarray, classes: int, metric: str
) -> tuple[float, float, float]:
    """The metric of the candidate and of production, and the one-sided p-value.

    `candidate` and `production` are predicted classes (n,), `targets` the actual ones. The p-value
    is of the candidate being no better; draws are fixed by a seed.
    """
    actual = np.bincount(targets, minlength=classes).astype(float)
    a, b = (_counts_of_images(each, targets, classes) for each in (candidate, production))
    changes = (b - a)[:, candidate != production]  # by swapping the predictions of an image

    def values(counts: np.ndarray) -> np.ndarray:
        right, predicted = np.split(counts, 2, axis=-1)
        return class_scores(right, predicted, actual, metric)

    of_a, of_b = (float(values(each.sum(1))) for each in (a, b))
    rng, as_large = np.random.default_rng(0), 0
    for _ in range(DRAWS // _CHUNK):
        moved = (changes @ rng.integers(0, 2, (_CHUNK, changes.shape[1])).T).T
        differences = values(a.sum(1) + moved) - values(b.sum(1) - moved)
        as_large += int((differences >= of_a - of_b - 1e-12).sum())
    return of_a, of_b, (1 + as_large) / (1 + DRAWS)


def _counts_of_images(predicted: np.ndarray, targets: np.ndarray, classes: int) -> Any:
    """A sparse matrix (2 * classes, n): for each image, ones at its class if it is right, and,
    below, at its predicted class."""
    from scipy.sparse import coo_array

    images, right = np.arange(len(targets)), np.flatnonzero(predicted == targets)
    rows = np.concatenate([predicted[right], classes + predicted])
    where = rows, np.concatenate([images[right], images])
    return coo_array((np.ones(len(rows), int), where), (2 * classes, len(targets))).tocsr()


class Labels(NamedTuple):
    """The labels that a model gives (bool), and its probabilities, (n, classes) each."""

    decided: np.ndarray
    scores: np.ndarray


def label_randomization_test(
    candidate: Labels, production: Labels, targets: np.ndarray, metric: str, draws: int = DRAWS
) -> tuple[float, float, float]:
    """As `randomization_test`, of several labels: macro_f1, micro_f1 or mean_average_precision.

    `targets` are the labels that are right, bool (n, classes). Of probabilities, only the order of
    the images counts, so that it does not matter if one model has larger ones.
    """
    of_a, of_b = (
        label_summary(each.decided, targets, each.scores)[metric]
        for each in (candidate, production)
    )
    rng = np.random.default_rng(0)
    values: Callable[[np.ndarray, np.ndarray], float]
    if metric == "mean_average_precision":
        order = rng.permutation(len(targets))  # so that equal ranks are in no order
        wanted, values = targets[order], _mean_precision
        a, b = (_ranks(each.scores[order]) for each in (candidate, production))
        draws = min(draws, ORDER_DRAWS)
    else:
        wanted, values = targets, _micro_f1 if metric == "micro_f1" else _macro_f1
        a, b = candidate.decided, production.decided
    least, as_large = values(a, wanted) - values(b, wanted), 0
    for _ in range(draws):
        is_swapped = rng.integers(0, 2, (len(wanted), 1)).astype(bool)
        one, other = np.where(is_swapped, b, a), np.where(is_swapped, a, b)
        as_large += bool(values(one, wanted) - values(other, wanted) >= least - 1e-12)
    return of_a, of_b, (1 + as_large) / (1 + draws)


def _ranks(scores: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return np.asarray(rankdata(scores, axis=0))


def _mean_precision(ranks: np.ndarray, targets: np.ndarray) -> float:
    order = np.argsort(-ranks, axis=0, kind="stable")
    found = np.take_along_axis(targets, order, axis=0)
    right, images = found.cumsum(0), targets.sum(0)
    places = np.arange(1, len(found) + 1)[:, None]
    sums, known = (right / places * found).sum(0), images > 0
    return float((sums[known] / images[known]).mean()) if known.any() else 0.0


def _macro_f1(decided: np.ndarray, targets: np.ndarray) -> float:
    right = (decided & targets).sum(0).astype(float)
    return float(class_scores(right, decided.sum(0), targets.sum(0), "macro_f1"))


def _micro_f1(decided: np.ndarray, targets: np.ndarray) -> float:
    return float(2 * (decided & targets).sum() / max(decided.sum() + targets.sum(), 1))
