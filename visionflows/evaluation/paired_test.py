"""A paired test for metrics that are no sum over images: balanced accuracy and macro F1.

Approximate randomization (E. Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989): if
both models were equally good, swapping their predictions for any image would make no difference.
"""

from typing import Any

import numpy as np

# The significance level of a promotion. At 0.05, macro F1 promoted up to 7 of 100
# candidates that were trained the same way as production (bench/promotion.py).
ALPHA = 0.025
DRAWS = 10_000
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
