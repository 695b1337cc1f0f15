"""A paired test for metrics that are no sum over images: balanced accuracy and macro F1.

Approximate randomization (E. Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989): if
both models were equally good, swapping their predictions for any image would make no difference.
"""

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
    from scipy.sparse import coo_array

    actual = np.bincount(targets, minlength=classes).astype(float)
    totals = [
        np.stack(
            [
                np.bincount(each[each == targets], minlength=classes),
                np.bincount(each, minlength=classes),
            ]
        )
        for each in (candidate, production)
    ]  # (2, classes): right images, and images predicted as each class
    a, b = (score(each, actual, metric) for each in totals)
    differs = np.flatnonzero(candidate != production)
    cells, signs, images = [], [], []  # that swapping the predictions of an image changes
    for each, sign in ((production, 1), (candidate, -1)):
        right = np.flatnonzero(each[differs] == targets[differs])
        for rows, offset in ((right, 0), (np.arange(len(differs)), classes)):
            cells.append(offset + each[differs][rows])
            signs.append(np.full(len(rows), sign))
            images.append(rows)
    where = np.concatenate(cells), np.concatenate(images)
    shape = 2 * classes, len(differs)
    change = coo_array((np.concatenate(signs), where), shape).tocsr()
    rng, as_large = np.random.default_rng(0), 0
    for _ in range(DRAWS // _CHUNK):
        moved = (change @ rng.integers(0, 2, (_CHUNK, len(differs))).T).T.reshape(-1, 2, classes)
        sides = totals[0] + moved, totals[1] - moved
        drawn = [class_scores(side[:, 0], side[:, 1], actual, metric) for side in sides]
        as_large += int((drawn[0] - drawn[1] >= a - b - 1e-12).sum())
    return a, b, (1 + as_large) / (1 + DRAWS)


def score(counts: np.ndarray, actual: np.ndarray, metric: str) -> float:
    """The metric of counts (2, classes): right images, and images predicted as each class."""
    return float(class_scores(counts[0], counts[1], actual, metric))
