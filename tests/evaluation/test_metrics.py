"""Metrics are scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as reference

from visionflows.evaluation.metrics import compute_metrics
from visionflows.evaluation.statistics import wilson_interval

CLASSES = ["a", "b", "c", "d"]


def uneven(images: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and targets; the last class has no image and is predicted at times."""
    rng = np.random.default_rng(0)
    targets = rng.choice(classes - 1, images, p=[0.8, 0.15, 0.05])
    scores = rng.normal(size=(images, classes))
    scores[np.arange(images), targets] += 1.5
    powers = np.exp(scores)
    return powers / powers.sum(1, keepdims=True), targets


@pytest.mark.filterwarnings("ignore:.*y_pred contains classes not in y_true")
def test_they_are_those_of_scikit_learn():
    probabilities, targets = uneven()
    predicted = probabilities.argmax(1)
    found = compute_metrics(predicted, targets, CLASSES)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(targets, predicted))
    assert found["error_rate"] == pytest.approx(1 - found["accuracy"])
    balanced = reference.balanced_accuracy_score(targets, predicted)
    assert found["balanced_accuracy"] == pytest.approx(balanced)
    macro = reference.f1_score(targets, predicted, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(macro)
    confusion = reference.confusion_matrix(targets, predicted, labels=range(4))
    assert found["confusion"] == [
        [actual, to, confusion[actual, to]] for actual, to in np.argwhere(confusion)
    ]


def test_each_class_has_precision_recall_and_intervals():
    probabilities, targets = uneven()
    predicted = probabilities.argmax(1)
    rows = compute_metrics(predicted, targets, CLASSES)["by_class"]
    for at, row in enumerate(rows[:3]):
        right = int(((predicted == at) & (targets == at)).sum())
        assert row["recall"] == pytest.approx(right / (targets == at).sum())
        assert row["recall_interval"] == list(wilson_interval(right, int((targets == at).sum())))
        assert row["precision"] == pytest.approx(right / (predicted == at).sum())
        assert row["precision_interval"][0] < row["precision"] < row["precision_interval"][1]
    assert rows[3]["recall"] is None
    assert "recall_interval" not in rows[3]
    assert rows[3]["precision"] == 0


def test_no_image_has_no_interval():
    found = compute_metrics(np.zeros(0, int), np.zeros(0, int), ["a", "b"])
    assert found["accuracy"] == 0
    assert "interval" not in found


def test_near_duplicates_are_one_image_in_the_intervals():
    """Ninety frames of a burst are no more evidence than one."""
    targets, predicted = np.repeat([0, 1], [95, 5]), np.repeat([0, 1], [95, 5])
    groups = np.r_[np.zeros(90, int), np.arange(1, 11)]
    found = compute_metrics(predicted, targets, ["a", "b"], groups)
    assert found["accuracy"] == 1
    assert found["interval"] == pytest.approx(wilson_interval(11, 11))
    first, last = found["by_class"]
    assert first["count"] == 95
    assert first["recall_interval"] == pytest.approx(wilson_interval(6, 6))
    assert last["precision_interval"] == pytest.approx(wilson_interval(5, 5))
