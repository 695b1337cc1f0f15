"""Metrics of a classifier: error rate, balanced accuracy, macro F1, and those of each class."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from visionflows.evaluation.statistics import wilson_interval


def confusion_matrix(predicted: np.ndarray, targets: np.ndarray, classes: int) -> np.ndarray:
    """The number of images, int (classes, classes): rows are actual, columns predicted classes."""
    matrix = np.zeros((classes, classes), dtype=int)
    np.add.at(matrix, (targets, predicted), 1)
    return matrix


def summary_metrics(confusion: np.ndarray) -> dict[str, float]:
    """error_rate, accuracy, balanced_accuracy (mean recall) and macro_f1 of a confusion matrix.

    As in scikit-learn, a class without images does not count for balanced accuracy, and one that
    is neither actual nor predicted does not count for F1.
    """
    right, predicted, actual = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    accuracy = float(right.sum() / max(confusion.sum(), 1))
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
    (see `class_metrics`), and confusion (rows: actual, columns: predicted classes).
    """
    confusion = confusion_matrix(predicted, targets, len(classes))
    right = int(confusion.diagonal().sum())
    return {
        **summary_metrics(confusion),
        **_share(right, len(targets), "interval"),
        "by_class": class_metrics(confusion, classes),
        "confusion": confusion.tolist(),
    }


def class_metrics(confusion: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Each class with its precision, recall, their Wilson 95 % intervals, and image count.

    Precision is None if no image is predicted as the class, recall if none is of the class.
    """
    right, predicted, actual = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    counts = zip(classes, right.tolist(), predicted.tolist(), actual.tolist(), strict=True)
    return [
        {
            "class": name,
            "precision": right / predicted if predicted else None,
            **_share(right, predicted, "precision_interval"),
            "recall": right / actual if actual else None,
            **_share(right, actual, "recall_interval"),
            "count": actual,
        }
        for name, right, predicted, actual in counts
    ]


def _share(right: int, total: int, key: str) -> dict[str, list[float]]:
    return {key: list(wilson_interval(right, total))} if total else {}


def confusion_csv(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> bytes:
    """The confusion matrix as rows of actual class, predicted class, images; no zeros."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["actual", "predicted", "images"])
    for actual, counts in zip(classes, confusion, strict=True):
        rows = zip(classes, counts, strict=True)
        writer.writerows([actual, predicted, count] for predicted, count in rows if count)
    return text.getvalue().encode()
