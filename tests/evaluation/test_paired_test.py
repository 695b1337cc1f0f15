"""The paired randomization test: scikit-learn's metrics, and how often it errs."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score

from visionflows.evaluation.paired_test import (
    Predictions,
    label_randomization_test,
    randomization_test,
)

SHARES = [0.8, 0.15, 0.05]
METRICS = {
    "balanced_accuracy": balanced_accuracy_score,
    "macro_f1": lambda targets, predicted: f1_score(targets, predicted, average="macro"),
}


def predictions(rng, targets: np.ndarray, errors: float) -> np.ndarray:
    wrong = rng.random(len(targets)) < errors
    return np.where(wrong, (targets + rng.integers(1, 3, len(targets))) % 3, targets)


@pytest.mark.parametrize("metric", METRICS)
def test_the_values_are_those_of_scikit_learn(metric):
    rng = np.random.default_rng(0)
    targets = rng.choice(3, 200, p=SHARES)
    candidate, production = predictions(rng, targets, 0.1), predictions(rng, targets, 0.2)
    a, b, *_ = randomization_test(candidate, production, targets, 3, metric)
    assert a == pytest.approx(METRICS[metric](targets, candidate))
    assert b == pytest.approx(METRICS[metric](targets, production))


@pytest.mark.parametrize("metric", METRICS)
def test_of_equal_models_few_are_found_better_and_a_better_one_is_found(metric):
    rng = np.random.default_rng(1)
    found = []
    for _ in range(200):
        targets = rng.choice(3, 300, p=SHARES)
        pair = [predictions(rng, targets, 0.15) for _ in range(2)]
        found.append(randomization_test(*pair, targets, 3, metric)[2] <= 0.05)
    assert 0.01 <= np.mean(found) <= 0.09, "about 5 %"
    targets = rng.choice(3, 300, p=SHARES)
    better = randomization_test(
        predictions(rng, targets, 0.02), predictions(rng, targets, 0.3), targets, 3, metric
    )
    assert better[2] < 0.01


def test_equal_predictions_are_no_evidence():
    targets = np.array([0, 1, 2, 0])
    assert randomization_test(targets, targets, targets, 3, "macro_f1") == (1, 1, 1, 1)


def test_the_p_value_is_that_of_all_swaps():
    """Two images differ, the candidate right about both: one of four swaps is as good."""
    targets = np.array([0, 0, 1, 1])
    production = np.array([0, 1, 1, 0])
    _, _, p_value, _ = randomization_test(targets, production, targets, 2, "balanced_accuracy")
    assert p_value == pytest.approx(0.25, abs=0.02)


LABEL_METRICS = {
    "mean_average_precision": lambda targets, one: average_precision_score(targets, one.scores),
    "micro_f1": lambda targets, one: f1_score(targets, one.labels, average="micro"),
    "macro_f1": lambda targets, one: f1_score(targets, one.labels, average="macro"),
}


def label_predictions(rng, targets: np.ndarray, noise: float) -> Predictions:
    scores = 1 / (1 + np.exp(-(2.0 * targets - 1 + rng.normal(0, noise, targets.shape))))
    return Predictions(scores > 0.5, scores)


@pytest.mark.parametrize("metric", LABEL_METRICS)
def test_the_values_of_several_labels_are_those_of_scikit_learn(metric):
    rng = np.random.default_rng(0)
    targets = rng.random((200, 4)) < [0.6, 0.3, 0.2, 0.1]
    pair = [label_predictions(rng, targets, noise) for noise in (1.0, 1.5)]
    found = label_randomization_test(*pair, targets, metric)
    assert found.candidate == pytest.approx(LABEL_METRICS[metric](targets, pair[0]))
    assert found.production == pytest.approx(LABEL_METRICS[metric](targets, pair[1]))
    assert found.p_value < 0.01 < 0.99 < found.p_value_of_production


@pytest.mark.parametrize("metric", LABEL_METRICS)
def test_of_equal_models_of_several_labels_few_are_found_better(metric, monkeypatch):
    monkeypatch.setattr("visionflows.evaluation.paired_test.DRAWS", 400)
    monkeypatch.setattr("visionflows.evaluation.paired_test.MIN_DRAWS", 400)
    rng, found = np.random.default_rng(2), []
    for _ in range(200):
        targets = rng.random((100, 3)) < [0.5, 0.3, 0.2]
        pair = [label_predictions(rng, targets, 1.5) for _ in range(2)]
        found.append(label_randomization_test(*pair, targets, metric).p_value <= 0.05)
    assert 0.01 <= np.mean(found) <= 0.09, "about 5 %"


def test_a_large_test_is_of_a_sample_and_of_bounded_time(monkeypatch):
    monkeypatch.setattr("visionflows.evaluation.paired_test._MAX_CELLS", 1_000_000)
    rng = np.random.default_rng(3)
    targets = rng.random((5_000, 4)) < 0.3
    pair = [label_predictions(rng, targets, noise) for noise in (1.0, 3.0)]
    found = label_randomization_test(*pair, targets, "mean_average_precision")
    assert found.p_value < 0.01
    assert found.candidate == pytest.approx(average_precision_score(targets, pair[0].scores))
