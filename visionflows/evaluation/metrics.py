"""Metrics of a classifier: error rate, balanced accuracy, macro F1, and those of each class."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from visionflows.evaluation.statistics import wilson_interval

# A pair of classes and its images: actual class, predicted class, images. The matrix of 10,000
# classes would be 100 million numbers, nearly all 0.
Confusion = Sequence[Sequence[int]]


class ClassCounts(NamedTuple):
    """Numbers of images by class, int (classes,): right, predicted as it, actually of it."""

    right: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray


def count_classes(
    predicted: np.ndarray, targets: np.ndarray, classes: int, votes: np.ndarray | None = None
) -> ClassCounts:
    """The counts of predicted classes (n,) for images of these classes (n,).

    With `votes` (n,), float, an image counts as many times.
    """
    right = predicted == targets
    of_right = None if votes is None else votes[right]
    each = (targets[right], of_right), (predicted, votes), (targets, votes)
    return ClassCounts(*(np.bincount(one, weights, classes) for one, weights in each))


def confusions(predicted: np.ndarray, targets: np.ndarray) -> list[list[int]]:
    """The confusion matrix of images as its pairs with images, sorted."""
    pairs = np.stack([targets, predicted], 1)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    rows: list[list[int]] = np.column_stack([found, counts]).tolist()
    return rows  # as JSON has them


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
    predicted: np.ndarray,
    targets: np.ndarray,
    classes: Sequence[str],
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """The metrics of predicted classes (n,) for images of these classes (n,).

    Rates are of all images. In the intervals, images with the same number in `groups` (n,), such as
    near-duplicates, count as one: they are no independent evidence.

    Keys: those of `summary_metrics`, interval (Wilson's 95 % interval of the accuracy), by_class
    (see `class_metrics`), and confusion (see `confusions`).
    """
    counts = votes = count_classes(predicted, targets, len(classes))
    if groups is not None:
        _, at, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        votes = count_classes(predicted, targets, len(classes), 1 / sizes[at])
    right, total, independent = counts.right.sum(), counts.actual.sum(), votes.actual.sum()
    return {
        **summary_metrics(counts),
        **share_interval("interval", float(right), float(total), float(independent)),
        "by_class": class_metrics(counts, votes, classes),
        "confusion": confusions(predicted, targets),
    }


def class_metrics(
    counts: ClassCounts, votes: ClassCounts, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Each class with its precision, recall, their Wilson 95 % intervals, and image count.

    Precision is None if no image is predicted as the class, recall if none is of the class.
    """
    independent = votes.predicted, votes.actual
    rows = zip(classes, *(each.tolist() for each in (*counts, *independent)), strict=True)
    return [
        {
            "class": name,
            "precision": right / predicted if predicted else None,
            **share_interval("precision_interval", right, predicted, predicted_votes),
            "recall": right / actual if actual else None,
            **share_interval("recall_interval", right, actual, actual_votes),
            "count": actual,
        }
        for name, right, predicted, actual, predicted_votes, actual_votes in rows
    ]


def share_interval(
    key: str, right: float, total: float, independent: float
) -> dict[str, list[float]]:
    """The interval of a share, as of so many independent images; nothing without images."""
    return {key: list(wilson_interval(right / total * independent, independent))} if total else {}


def confusion_csv(confusion: Confusion, classes: Sequence[str]) -> bytes:
    """The confusion matrix as rows of actual class, predicted class, images; no zeros."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["actual", "predicted", "images"])
    writer.writerows([classes[actual], classes[to], images] for actual, to, images in confusion)
    return text.getvalue().encode()
