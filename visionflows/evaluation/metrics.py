"""Metrics of a classifier: error rate, balanced accuracy, macro F1, and those of each class."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from visionflows.evaluation.statistics import wilson_interval

# A pair of classes and its images: actual class, predicted class, images. The matrix of 10,000
# classes would be 100 million numbers, nearly all 0.
Confusion = Sequence[tuple[int, int, int]]


class ClassCounts(NamedTuple):
    """Numbers of images by class, int (classes,): right, predicted as it, actually of it."""

    right: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray


def count_classes(predicted: np.ndarray, targets: np.ndarray, classes: int) -> ClassCounts:
    """The counts of predicted classes (n,) for images of these classes (n,)."""
    each = targets[predicted == targets], predicted, targets
    return ClassCounts(*(np.bincount(one, minlength=classes) for one in each))


def confusions(predicted: np.ndarray, targets: np.ndarray) -> list[tuple[int, int, int]]:
    """The confusion matrix of images as its pairs with images, sorted."""
    pairs = np.stack([targets, predicted], 1)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    return [(a, p, n) for (a, p), n in zip(found.tolist(), counts.tolist(), strict=True)]


def summary_metrics(counts: ClassCounts) -> dict[str, float]:
    """error_rate, accuracy, balanced_accuracy (mean recall) and macro_f1 of counts by class.

    As in scikit-learn, a class without images does not count for balanced accuracy, and one that
    is neither actual nor predicted does not count for F1.
    """
    right, predicted, actual = counts
    accuracy = float(right.sum() / max(actual.sum(), 1))
    known, seen = actual > 0, actual + predicted > 0
    recall = right[known] / actual[known]
    f1 = 2 * right[seen] / (actual + predicted)[seen]
    return {
        "error_rate": 1 - accuracy,
        "accuracy": accuracy,
        "balanced_accuracy": float(recall.mean()) if len(recall) else 0.0,
        "macro_f1": float(f1.mean()) if len(f1) else 0.0,
    }


def log_losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-log of the probability of each image's class, float (n,), for logits (n, classes)."""
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(targets)), targets])


def compute_metrics(
    predicted: np.ndarray, targets: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """The metrics of predicted classes (n,) for images of these classes (n,).

    Keys: those of `summary_metrics`, interval (Wilson's 95 % interval of the accuracy), by_class
    (see `class_metrics`), and confusion (see `confusions`).
    """
    counts = count_classes(predicted, targets, len(classes))
    return {
        **summary_metrics(counts),
        **_share(int(counts.right.sum()), len(targets), "interval"),
        "by_class": class_metrics(counts, classes),
        "confusion": confusions(predicted, targets),
    }


def class_metrics(counts: ClassCounts, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Each class with its precision, recall, their Wilson 95 % intervals, and image count.

    Precision is None if no image is predicted as the class, recall if none is of the class.
    """
    rows = zip(classes, *(each.tolist() for each in counts), strict=True)
    return [
        {
            "class": name,
            "precision": right / predicted if predicted else None,
            **_share(right, predicted, "precision_interval"),
            "recall": right / actual if actual else None,
            **_share(right, actual, "recall_interval"),
            "count": actual,
        }
        for name, right, predicted, actual in rows
    ]


def _share(right: int, total: int, key: str) -> dict[str, list[float]]:
    return {key: list(wilson_interval(right, total))} if total else {}


def confusion_csv(confusion: Confusion, classes: Sequence[str]) -> bytes:
    """The confusion matrix as rows of actual class, predicted class, images; no zeros."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["actual", "predicted", "images"])
    writer.writerows([classes[actual], classes[to], images] for actual, to, images in confusion)
    return text.getvalue().encode()
