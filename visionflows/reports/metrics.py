"""Values of metrics.html: the confusion matrix, the most confused classes, images left out."""

from collections.abc import Sequence
from typing import Any

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

Confusion = Sequence[Sequence[int]]


def confusion_values(confusion: Confusion, classes: Sequence[str]) -> dict[str, Any]:
    """The values `matrix` and `confused` of a page; `confusion` has a row per actual class."""
    matrix = {
        "counts": confusion,
        "is_shown": bool(confusion) and len(classes) <= MATRIX_CLASSES,
        "is_upright": len(classes) > 8 and max(map(len, classes)) > 3,
    }
    return {"matrix": matrix, "confused": _confused_pairs(confusion, classes)}


def _confused_pairs(
    confusion: Confusion, classes: Sequence[str]
) -> list[tuple[str, str, int, float]]:
    """Actual class, predicted class, images, and their share of the actual class; most first.

    Empty for two classes: the matrix shows both pairs.
    """
    rows = confusion if len(classes) > 2 else ()
    found = [
        (classes[actual], classes[predicted], count, count / sum(row))
        for actual, row in enumerate(rows)
        for predicted, count in enumerate(row)
        if count and predicted != actual
    ]
    return sorted(found, key=lambda pair: -pair[2])[:CONFUSED_PAIRS]
