"""The paired randomization test: scikit-learn's metrics, and how often it errs."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score

from visionflows.evaluation.paired_test import (
    ALPHA,
    Labels,
    label_randomization_test,
    randomization_test,
)

LABEL_METRICS = ["mean_average_precision", "macro_f1", "micro_f1"]
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
    a, b, _ = randomization_test(candidate, production, targets, 3, metric)
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
    assert randomization_test(targets, targets, targets, 3, "macro_f1") == (1, 1, 1)


def test_the_p_value_is_that_of_all_swaps():
    """Two images differ, the candidate right about both: one of four swaps is as good."""
    targets = np.array([0, 0, 1, 1])
    production = np.array([0, 1, 1, 0])
    _, _, p_value = randomization_test(targets, production, targets, 2, "balanced_accuracy")
    assert p_value == pytest.approx(0.25, abs=0.02)


def label_scores(rng, targets: np.ndarray, skill: float) -> Labels:
    scores = rng.normal(size=targets.shape) + skill * targets
    return Labels(scores > skill / 2, scores)


@pytest.mark.parametrize("metric", LABEL_METRICS)
def test_of_equal_models_of_several_labels_few_are_found_better(metric):
    """Of 400 pairs of equal models at most 5 % are promoted, of images with rare classes too."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(400):
        targets = rng.random((80, 4)) < [0.4, 0.2, 0.1, 0.05]
        pair = [label_scores(rng, targets, 2) for _ in range(2)]
        found.append(label_randomization_test(*pair, targets, metric, draws=200)[2] <= ALPHA)
    assert 0.005 <= np.mean(found) <= 0.05
    targets = rng.random((80, 4)) < 0.3
    better, worse = (label_scores(rng, targets, skill) for skill in (4, 1))
    assert label_randomization_test(better, worse, targets, metric)[2] < 0.01
    assert label_randomization_test(worse, better, targets, metric)[2] > 0.9


@pytest.mark.parametrize("metric", LABEL_METRICS)
def test_equal_labels_are_no_evidence(metric):
    rng = np.random.default_rng(3)
    targets = rng.random((30, 3)) < 0.3
    one = label_scores(rng, targets, 2)
    larger = Labels(one.decided, one.scores * 2 + 5)  # in the same order
    of_a, of_b, p_value = label_randomization_test(larger, one, targets, metric, draws=50)
    assert (of_a, p_value) == (of_b, 1)
    expected = {
        "mean_average_precision": average_precision_score(targets, one.scores, average="macro"),
        "macro_f1": f1_score(targets, one.decided, average="macro"),
        "micro_f1": f1_score(targets, one.decided, average="micro"),
    }
    assert of_a == pytest.approx(expected[metric])
