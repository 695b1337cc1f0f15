"""Values of metrics.html: the confusion matrix, the most confused classes, images left out."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from visionflows.evaluation.metrics import Confusion
from visionflows.models.metrics_schema import Metrics

CONFUSED_PAIRS = 20
MATRIX_CLASSES = 40  # of a larger matrix only the most frequent confusions are shown

LEFT_OUT = {  # reasons why images are not evaluated, by status
    "unlabelled": "the label rule gives them no label",
    "unknown_class": "the model does not know their class",
    "trained_on": "the model was trained on them or on near-duplicates",
    "same_group": "the model was trained or validated on images of their groups",
    "unreadable": "they cannot be decoded",
    "too_large": "they have more pixels than allowed",
    "missing": "they disappeared",
    "fetch_failed": "they could not be read from their storage",
}


def confusion_values(confusion: Confusion, classes: Sequence[str]) -> dict[str, Any]:
    """The values `matrix` and `confused` of a page."""
    is_shown = bool(confusion) and len(classes) <= MATRIX_CLASSES
    matrix = {
        "counts": _matrix(confusion, len(classes)) if is_shown else [],
        "is_shown": is_shown,
        "is_upright": len(classes) > 8 and max(map(len, classes)) > 3,
    }
    return {"matrix": matrix, "confused": _confused_pairs(confusion, classes)}


def _matrix(confusion: Confusion, classes: int) -> list[list[int]]:
    """A row for each actual class, of the images predicted as each class."""
    counts = {(actual, predicted): images for actual, predicted, images in confusion}
    return [[counts.get((row, column), 0) for column in range(classes)] for row in range(classes)]


def label_pairs(metrics: Metrics, classes: Sequence[str]) -> dict[str, Any]:
    """The values `confused` and `together` of a page on several labels a photo.

    Both have pairs of classes with their images, most first, and the share of a class that they
    are: of the missed one, or of the rarer one.
    """
    sizes = [row.count for row in metrics.by_class]
    confused = [(a, b, images, sizes[a]) for a, b, images in metrics.confusion if a != b]
    together = [(a, b, images, min(sizes[a], sizes[b])) for a, b, images in metrics.together]
    return {"confused": _named(confused, classes), "together": _named(together, classes)}


def _named(
    pairs: Sequence[tuple[int, int, int, int]], classes: Sequence[str]
) -> list[tuple[str, str, int, float]]:
    first = sorted(pairs, key=lambda pair: -pair[2])[:CONFUSED_PAIRS]
    return [(classes[a], classes[b], images, images / size) for a, b, images, size in first]


def _confused_pairs(
    confusion: Confusion, classes: Sequence[str]
) -> list[tuple[str, str, int, float]]:
    """Actual class, predicted class, images, and their share of the actual class; most first.

    Empty for two classes: the matrix shows both pairs.
    """
    actual: Counter[int] = Counter()
    for row, _, images in confusion:
        actual[row] += images
    found = [
        (classes[row], classes[column], images, images / actual[row])
        for row, column, images in confusion
        if row != column and len(classes) > 2
    ]
    return sorted(found, key=lambda pair: -pair[2])[:CONFUSED_PAIRS]
