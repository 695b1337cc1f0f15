"""Paired tests for metrics that are no sum over images, such as F1 and mean average precision.

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
_CHUNK = 500  # draws at once
# Mean average precision ranks all images again in each draw. So there are as many draws as keep
# images × classes × draws below this (a minute), but at least MIN_DRAWS, of at most so many images.
_MAX_CELLS = 1_000_000_000
MIN_DRAWS = 1_000


class PairedTest(NamedTuple):
    """The metric of the candidate and of production, and the p-values of either being better."""

    candidate: float
    production: float
    p_value: float
    p_value_of_production: float


class Predictions(NamedTuple):
    """A model's labels of images (bool) and the probabilities of classes, both (n, classes)."""

    labels: np.ndarray
    scores: np.ndarray


def class_scores(
    right: np.ndarray, predicted: np.ndarray, actual: np.ndarray, metric: str
) -> np.ndarray:
    """A metric, float (…,), of counts by class (…, classes).

    `metric` is balanced_accuracy, macro_f1 or micro_f1.
    """
    if metric == "balanced_accuracy":
        known = actual > 0
        return np.asarray((right[..., known] / actual[known]).mean(-1))
    total = actual + predicted
    if metric == "micro_f1":
        return np.asarray(2 * right.sum(-1) / np.maximum(total.sum(-1), 1))
    f1 = np.divide(2 * right, total, out=np.zeros(np.shape(total)), where=total > 0)
    seen = (total > 0).sum(-1)
    return np.asarray(f1.sum(-1) / np.maximum(seen, 1))


def randomization_test(
    candidate: np.ndarray, production: np.ndarray, targets: np.ndarray, classes: int, metric: str
) -> PairedTest:
    """The paired test of models that give one label a photo.

    `candidate` and `production` are predicted classes (n,), `targets` the actual ones. Draws are
    fixed by a seed.
    """
    actual = np.bincount(targets, minlength=classes).astype(float)
    a, b = (_counts_of_images(each, targets, classes) for each in (candidate, production))
    return _test_counts(a, b, actual, metric)


def label_randomization_test(
    candidate: Predictions, production: Predictions, targets: np.ndarray, metric: str
) -> PairedTest:
    """The paired test of models that give several labels a photo; `targets` are (n, classes)."""
    if metric == "mean_average_precision":
        return _test_ranking(candidate.scores, production.scores, targets)
    a, b = (
        np.concatenate([one.labels & targets, one.labels], 1).T.astype(int)
        for one in (candidate, production)
    )
    return _test_counts(a, b, targets.sum(0).astype(float), metric)


def _test_counts(a: Any, b: Any, actual: np.ndarray, metric: str) -> PairedTest:
    """The test of a metric of counts (2 * classes, n): labels that are right, and labels given."""
    changes = b - a  # by swapping the predictions of an image
    changes = changes[:, np.flatnonzero(abs(changes).sum(0))]

    def value(counts: np.ndarray) -> np.ndarray:
        right, predicted = np.split(counts, 2, axis=-1)
        return class_scores(right, predicted, actual, metric)

    of_a, of_b = a.sum(1), b.sum(1)

    def differences(swapped: np.ndarray) -> np.ndarray:
        moved = (changes @ swapped.T).T
        return np.asarray(value(of_a + moved) - value(of_b - moved))

    p_values = _p_values(differences, changes.shape[1], DRAWS)
    return PairedTest(float(value(of_a)), float(value(of_b)), *p_values)


def _test_ranking(a: np.ndarray, b: np.ndarray, targets: np.ndarray) -> PairedTest:
    """The test of the mean average precision, for scores (n, classes)."""
    chosen = np.arange(len(targets))
    if (most := _MAX_CELLS // MIN_DRAWS // max(targets.shape[1], 1)) < len(targets):
        chosen = np.random.default_rng(1).choice(chosen, most, replace=False)
    columns = [
        _Ranking.of(*(one[chosen, at] for one in (a, b, targets)))
        for at in np.flatnonzero(targets[chosen].any(0)).tolist()
    ]

    def differences(swapped: np.ndarray) -> np.ndarray:
        return np.asarray(np.mean([column.differences(swapped) for column in columns], 0))

    draws = min(DRAWS, max(MIN_DRAWS, _MAX_CELLS // max(len(chosen) * len(columns), 1)))
    p_values = _p_values(differences, len(chosen), draws)
    of_a, of_b = (label_summary(targets, targets, one)["mean_average_precision"] for one in (a, b))
    return PairedTest(of_a, of_b, *p_values)


class _Ranking(NamedTuple):
    """The scores of both models for a class in one order: image, model and target of each."""

    image: np.ndarray
    is_second: np.ndarray
    target: np.ndarray

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray, targets: np.ndarray) -> "_Ranking":
        order = np.argsort(-np.concatenate([a, b]), kind="stable")
        return cls(order % len(a), order >= len(a), targets[order % len(a)])

    def differences(self, swapped: np.ndarray) -> np.ndarray:
        """Average precision of the first model less that of the second, for each draw."""
        is_first = swapped[:, self.image] == self.is_second
        of_first, of_second = map(self._average_precision, (is_first, ~is_first))
        return np.asarray(of_first - of_second)

    def _average_precision(self, chosen: np.ndarray) -> np.ndarray:
        right = chosen & self.target
        precision = np.cumsum(right, 1) / np.maximum(np.cumsum(chosen, 1), 1)
        return np.asarray((precision * right).sum(1) / right.sum(1))


def _p_values(
    differences: Callable[[np.ndarray], np.ndarray], images: int, draws: int
) -> tuple[float, float]:
    """The p-values of the first model, and of the second one, being better.

    `differences` gives the first model's metric less the second one's, for swaps 0 or 1 (draws,
    images).
    """
    rng, as_large = np.random.default_rng(0), np.zeros(2, int)
    observed = float(differences(np.zeros((1, images), int))[0])
    chunk = max(min(_CHUNK, 10_000_000 // max(images, 1)), 1)  # 80 MB of swaps
    for start in range(0, draws, chunk):
        found = differences(rng.integers(0, 2, (min(chunk, draws - start), images)))
        as_large += (found >= observed - 1e-12).sum(), (found <= observed + 1e-12).sum()
    p_value, of_second = (float(count) for count in (1 + as_large) / (1 + draws))
    return p_value, of_second


def _counts_of_images(predicted: np.ndarray, targets: np.ndarray, classes: int) -> Any:
    """A sparse matrix (2 * classes, n): for each image, ones at its class if it is right, and,
    below, at its predicted class."""
    from scipy.sparse import coo_array

    images, right = np.arange(len(targets)), np.flatnonzero(predicted == targets)
    rows = np.concatenate([predicted[right], classes + predicted])
    where = rows, np.concatenate([images[right], images])
    return coo_array((np.ones(len(rows), int), where), (2 * classes, len(targets))).tocsr()
