"""From which confidence on a label may be believed without a person looking at it.

    from visionflows.evaluation.thresholds import thresholds
    thresholds(told, classes, least=0.98).by_class        # (0.83, None): all of dog is for people

A class may be believed from a threshold on if the precision of the validation images that are
called so, and that surely, is at least the wanted one, with 95 % confidence: the lower bound of
C. Clopper and E. Pearson (Biometrika 26, 1934). Thresholds are tried downwards, from a strict one
until the first that does not show it: of tests in a fixed order only the first that should fail can
err. A wrong label among the surest images would end that too soon, so there are several such
sequences, each begun at twice as many images as the one before, which share the 5 % that may err
(A. Angelopoulos et al., Learn then Test, 2021: fixed sequences with several starts).
"""

import csv
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from visionflows.errors import SettingsError
from visionflows.evaluation.statistics import at_most
from visionflows.models.artifact import VALIDATION, Model

CONFIDENCE = 0.95


class Told(NamedTuple):
    """Validation images: what they were called (an index of a class), how surely, and if rightly;
    arrays (n,)."""

    predicted: np.ndarray
    confidence: np.ndarray
    right: np.ndarray


class Thresholds(NamedTuple):
    """A confidence a class, None where every row is for a person, as of a class that no
    validation image was called; `share` of the validation images
    are below theirs; `together` are the classes that had too few of the `images` for one of their
    own, and share one."""

    by_class: tuple[float | None, ...]
    share: float
    together: tuple[str, ...]
    images: int


def believed(model: Model, least: float, raw: bool) -> Thresholds:
    """The thresholds of a model, by its validation images.

    Raises SettingsError where the model does not say what it made of each.
    """
    if not model.has(VALIDATION):
        raise SettingsError(
            f"min_precision: {model.name} has no {VALIDATION}, as older ones; train it again"
        )
    told = read_told(model.files.read(VALIDATION), model.classes, raw)
    return thresholds(told, model.classes, least)


def in_words(found: Thresholds, least: float) -> str:
    """What thresholds leave to people, for a person who starts a run."""
    told = (
        f"about {100 * found.share:.1f} % of rows are left to people, as of {found.images} "
        f"validation images, so that of the other labels at least {100 * least:g} % are right"
    )
    if not found.together:
        return told
    those = "all classes" if len(found.together) == len(found.by_class) else "some classes"
    return f"{told}; {those} have fewer than {needed(least)} such images, and share a threshold"


def read_told(validation: bytes, classes: Sequence[str], raw: bool) -> Told:
    """The validation images of a bundle (its validation.csv)."""
    rows = list(csv.DictReader(io.StringIO(validation.decode(), newline="")))
    at = {name: index for index, name in enumerate(classes)}
    column = "raw" if raw else "confidence"
    return Told(
        np.array([at[row["predicted"]] for row in rows], int),
        np.array([float(row[column]) for row in rows]),
        np.array([row["predicted"] == row["label"] for row in rows], bool),
    )


def thresholds(told: Told, classes: Sequence[str], least: float) -> Thresholds:
    """From which confidence on the labels of each class have a precision of at least `least`."""
    enough = needed(least)
    counts = np.bincount(told.predicted, minlength=len(classes))
    few = np.flatnonzero((counts > 0) & (counts < enough))
    found: list[float | None] = [None] * len(classes)
    for index in np.flatnonzero(counts >= enough):
        found[index] = _threshold(told, told.predicted == index, least)
    shared = _threshold(told, np.isin(told.predicted, few), least)
    for index in few:
        found[index] = shared
    limits = np.array([math.inf if one is None else one for one in found])
    below = told.confidence < limits[told.predicted]
    share = float(below.mean()) if len(below) else 1.0
    together = tuple(classes[index] for index in few.tolist())
    return Thresholds(tuple(found), share, together, len(told.right))


def needed(least: float, confidence: float = CONFIDENCE) -> int:
    """The fewest images, all of them right, that show such a precision."""
    return math.ceil(math.log(1 - confidence) / math.log(least))


def _threshold(told: Told, chosen: np.ndarray, least: float) -> float | None:
    order = np.argsort(-told.confidence[chosen], kind="stable")
    sure, right = told.confidence[chosen][order], told.right[chosen][order]
    sequences = max(int(math.log2(max(len(order), 1) / needed(least))) + 1, 1)
    confidence = 1 - (1 - CONFIDENCE) / sequences
    first = needed(least, confidence)
    ends = [_end(sure, right, least, confidence, first * 2**at) for at in range(sequences)]
    return float(sure[max(ends) - 1]) if max(ends) else None


def _end(sure: np.ndarray, right: np.ndarray, least: float, confidence: float, start: int) -> int:
    """How many of the images, the surest first, show it in a row from `start` on; 0 if none."""
    wrong, found, allowed = np.cumsum(~right).tolist(), 0, -1
    for count in range(start, len(sure) + 1):
        if count < len(sure) and sure[count] == sure[count - 1]:
            continue  # a threshold cannot part what is equally sure
        # What so many wrong ones have shown of fewer images, they show of more.
        if wrong[count - 1] > allowed and not shows(count, wrong[count - 1], least, confidence):
            break
        found, allowed = count, max(allowed, wrong[count - 1])
    return found


def shows(images: int, wrong: int, least: float, confidence: float = CONFIDENCE) -> bool:
    """Whether so many wrong ones among so many images show that at least `least` are right.

    Were the precision just `least`, so few wrong ones or fewer would be seen in no more than 5 %
    (1 - confidence) of such samples.
    """
    return at_most(wrong, images, 1 - least) <= 1 - confidence
