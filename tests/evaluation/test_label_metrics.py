"""Metrics of several labels a photo are scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as reference

from visionflows.evaluation.label_metrics import compute_label_metrics, label_log_losses
from visionflows.evaluation.metrics import compute_metrics
from visionflows.evaluation.statistics import wilson_interval

CLASSES = ["a", "b", "c", "d"]


def uneven(images: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with ties, and targets; the last class has no image and is given at times."""
    rng = np.random.default_rng(0)
    targets = rng.random((images, 4)) < [0.6, 0.3, 0.05, 0]
    logits = rng.normal(size=targets.shape) + 2 * targets - 1
    return (1 / (1 + np.exp(-logits))).round(2), targets


def measure(scores: np.ndarray, targets: np.ndarray, groups: np.ndarray | None = None) -> dict:
    groups = np.arange(len(targets)) if groups is None else groups
    return compute_label_metrics(scores >= 0.5, targets, scores, CLASSES, groups)


def test_they_are_those_of_scikit_learn():
    scores, targets = uneven()
    found, decided = measure(scores, targets), scores >= 0.5
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(targets, decided))
    assert found["error_rate"] == pytest.approx(1 - found["accuracy"])
    for average in ("micro", "macro"):
        wanted = reference.f1_score(targets, decided, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(wanted)
    precisions = [
        reference.average_precision_score(targets[:, at], scores[:, at]) for at in range(3)
    ]
    assert found["mean_average_precision"] == pytest.approx(np.mean(precisions))
    assert [row["average_precision"] for row in found["by_class"]] == [
        *map(pytest.approx, precisions),
        None,
    ]


def test_each_class_has_precision_and_recall_as_if_it_were_alone():
    scores, targets = uneven()
    for at, row in enumerate(measure(scores, targets)["by_class"]):
        alone = compute_metrics(scores[:, at] >= 0.5, targets[:, at].astype(int), ["no", "yes"])
        expected = alone["by_class"][1] | {"class": CLASSES[at]}
        assert {key: row[key] for key in expected} == expected


def test_near_duplicates_count_as_one_image_in_intervals():
    scores, targets = uneven(60)
    found = measure(scores, targets, np.arange(60) // 2)
    assert found["interval"] == list(wilson_interval(found["accuracy"] * 30, 30))


def test_what_is_confused_and_what_is_together():
    decided = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
    targets = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 1], [1, 0, 1]], bool)
    found = compute_label_metrics(decided, targets, decided * 1.0, CLASSES[:3], np.arange(4))
    assert found["confusion"] == [[0, 0, 1], [0, 1, 2], [2, 2, 1]]
    assert found["together"] == [[0, 2, 2]]


def test_log_losses_are_those_of_scikit_learn():
    scores, targets = uneven()
    scores = scores.clip(0.01, 0.99)
    found = label_log_losses(np.log(scores / (1 - scores)), targets)
    wanted = reference.log_loss(targets.ravel(), scores.ravel())
    assert found.mean() == pytest.approx(wanted)
