"""Thresholds: the confidence from which on labels of a class need no review.

A class has a threshold if the validation images above it show, with 95 % confidence, at least the
wanted precision: by the lower bound of C. Clopper and E. Pearson (Biometrika 26, 1934). Thresholds
are tried downwards, from a strict one to the first that does not show it: among tests in a fixed
order, only the first that should fail can err. A wrong label among the most confident images would
end that too soon. So several sequences start, each at twice as many images as the one before, and
share the 5 % (A. Angelopoulos et al., Learn then Test, 2021).

With several labels a photo there is one threshold for all rows. The confidence of a row is that of
its least certain decision, and it is right if it has all its labels and no other. So a row needs
review if a single decision is not certain enough.
"""

import csv
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from visionflows.evaluation.statistics import is_rate_below
from visionflows.models.artifact import VALIDATION, Model

CONFIDENCE = 0.95


class Predictions(NamedTuple):
    """Predictions for validation images, as arrays (n,).

    `predicted` are indices of classes, all 0 with several labels; `right` says whether each is the
    label, or all labels.
    """

    predicted: np.ndarray
    confidence: np.ndarray
    right: np.ndarray


class Thresholds(NamedTuple):
    """The threshold of each class; None if every row of it needs review.

    `share` of the validation images are below their threshold. The classes in `together` have too
    few of the `images` for a threshold of their own, and share one.
    """

    by_class: tuple[float | None, ...]
    share: float
    together: tuple[str, ...]
    images: int


def model_thresholds(model: Model, precision: float, raw: bool) -> Thresholds:
    """The thresholds of a model, by its validation images; `raw` takes uncalibrated confidence."""
    data = model.files.read(VALIDATION)
    if model.info.multi_label:
        found = fit_thresholds(read_validation(data, [], raw), [""], precision)
        return found._replace(by_class=found.by_class * len(model.classes), together=())
    predictions = read_validation(data, model.classes, raw)
    return fit_thresholds(predictions, model.classes, precision)


def describe_thresholds(found: Thresholds, precision: float) -> str:
    """What thresholds mean for a run, as a sentence for the log."""
    text = (
        f"about {100 * found.share:.1f} % of rows need review, by {found.images} validation "
        f"images, so that at least {100 * precision:g} % of the other labels are right"
    )
    if not found.together:
        return text
    classes = "all classes" if len(found.together) == len(found.by_class) else "some classes"
    return (
        f"{text}; {classes} have fewer than {images_needed(precision)} images and share a threshold"
    )


def read_validation(data: bytes, classes: Sequence[str], raw: bool) -> Predictions:
    """The predictions in the validation.csv of an artifact; of several labels without classes."""
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    at = {name: index for index, name in enumerate(classes)}
    column = "raw" if raw else "confidence"
    return Predictions(
        np.array([at[row["predicted"]] if at else 0 for row in rows], int),
        np.array([float(row[column]) for row in rows]),
        np.array([row["predicted"] == row["label"] for row in rows], bool),
    )


def fit_thresholds(
    predictions: Predictions, classes: Sequence[str], precision: float
) -> Thresholds:
    """The thresholds above which the labels of each class have at least this precision."""
    enough = images_needed(precision)
    counts = np.bincount(predictions.predicted, minlength=len(classes))
    few = np.flatnonzero((counts > 0) & (counts < enough))
    found: list[float | None] = [None] * len(classes)
    for index in np.flatnonzero(counts >= enough):
        found[index] = _threshold(predictions, predictions.predicted == index, precision)
    shared = _threshold(predictions, np.isin(predictions.predicted, few), precision)
    for index in few:
        found[index] = shared
    limits = np.array([math.inf if one is None else one for one in found])
    below = predictions.confidence < limits[predictions.predicted]
    share = float(below.mean()) if len(below) else 1.0
    together = tuple(classes[index] for index in few.tolist())
    return Thresholds(tuple(found), share, together, len(predictions.right))


def images_needed(precision: float, confidence: float = CONFIDENCE) -> int:
    """The fewest images, all of them right, that show this precision."""
    return math.ceil(math.log(1 - confidence) / math.log(precision))


def _threshold(predictions: Predictions, chosen: np.ndarray, precision: float) -> float | None:
    order = np.argsort(-predictions.confidence[chosen], kind="stable")
    scores, right = predictions.confidence[chosen][order], predictions.right[chosen][order]
    sequences = max(int(math.log2(max(len(order), 1) / images_needed(precision))) + 1, 1)
    confidence = 1 - (1 - CONFIDENCE) / sequences
    first = images_needed(precision, confidence)
    starts = [first * 2**at for at in range(sequences)]
    longest = max(_last_shown(scores, right, precision, confidence, start) for start in starts)
    return float(scores[longest - 1]) if longest else None


def _last_shown(
    scores: np.ndarray, right: np.ndarray, precision: float, confidence: float, start: int
) -> int:
    """How many images, sorted by score, show the precision without a gap from `start` on."""
    wrong, shown, allowed = np.cumsum(~right).tolist(), 0, -1
    for count in range(start, len(scores) + 1):
        if count < len(scores) and scores[count] == scores[count - 1]:
            continue  # a threshold cannot split equal scores
        # If fewer images with as many wrong ones have shown it, so do these.
        if wrong[count - 1] > allowed and not is_rate_below(
            wrong[count - 1], count, 1 - precision, confidence
        ):
            break
        shown, allowed = count, max(allowed, wrong[count - 1])
    return shown
