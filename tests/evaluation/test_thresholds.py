"""Thresholds keep their precision on images they were not fitted on."""

import numpy as np
import pytest
from scipy.stats import beta

from visionflows.evaluation.statistics import is_rate_below
from visionflows.evaluation.thresholds import (
    Predictions,
    describe_thresholds,
    fit_thresholds,
    images_needed,
)


def predictions(count: int, seed: int, classes: int = 2) -> Predictions:
    """Predictions that are right as often as their confidence."""
    draws = np.random.default_rng(seed)
    confidence = 1 - 0.5 * draws.random(count) ** 4
    right = draws.random(count) < confidence
    return Predictions(draws.integers(0, classes, count), confidence, right)


@pytest.mark.parametrize("images,wrong", [(148, 0), (149, 0), (235, 1), (236, 1), (1000, 12)])
def test_the_bound_is_that_of_clopper_and_pearson(images, wrong):
    lower = beta.ppf(0.05, images - wrong, wrong + 1)
    assert is_rate_below(wrong, images, 1 - 0.98, 0.95) == (lower >= 0.98)


def test_the_number_of_needed_images():
    assert images_needed(0.98) == 149
    assert is_rate_below(0, 149, 1 - 0.98, 0.95)
    assert not is_rate_below(0, 148, 1 - 0.98, 0.95)


def test_unreviewed_labels_have_the_wanted_precision():
    """The bound may fail for one sample in twenty: for at most 11 of 100 (0.6 % by chance)."""
    kept, truth = [], predictions(50_000, seed=999)
    for seed in range(100):
        found = fit_thresholds(predictions(1500, seed), ["a", "b"], 0.95)
        limits = np.array([2.0 if one is None else one for one in found.by_class])
        for class_ in range(2):
            sure = (truth.predicted == class_) & (truth.confidence >= limits[class_])
            if sure.any():
                kept.append(truth.right[sure].mean() >= 0.95 - 0.002)
    assert len(kept) > 150
    assert np.mean(kept) > 0.89


def test_the_share_for_review_is_that_of_other_images():
    found = fit_thresholds(predictions(3000, 1), ["a", "b"], 0.9)
    limits, other = np.array(found.by_class), predictions(50_000, 2)
    assert found.together == ()
    assert (other.confidence < limits[other.predicted]).mean() == pytest.approx(
        found.share, abs=0.04
    )


def test_classes_of_few_images_share_a_threshold():
    some = predictions(1000, 3, classes=20)
    found = fit_thresholds(some, [f"c{at}" for at in range(20)], 0.9)
    assert len(found.together) == 0  # 50 or so each, 29 needed
    found = fit_thresholds(some, [f"c{at}" for at in range(20)], 0.95)
    assert len(found.together) > 10
    assert len({found.by_class[int(name[1:])] for name in found.together}) == 1
    assert "share a threshold" in describe_thresholds(found, 0.95)


def test_all_rows_need_review_if_nothing_can_be_shown():
    found = fit_thresholds(predictions(100, 4), ["a", "b"], 0.99)
    assert found.by_class == (None, None)
    assert found.share == 1


def test_a_wrong_label_among_the_most_confident_does_not_end_the_search():
    """As with human labels: one in a hundred is wrong, at any confidence."""
    right = np.ones(2000, bool)
    right[3::100] = False
    some = Predictions(np.zeros(2000, int), np.linspace(1, 0.5, 2000), right)
    (found,) = fit_thresholds(some, ["a"], 0.98).by_class
    assert found < 0.52


def test_equal_confidences_are_on_one_side():
    same = Predictions(np.zeros(400, int), np.full(400, 0.9), np.arange(400) > 3)
    assert fit_thresholds(same, ["a"], 0.97).by_class == (0.9,)
    worse = Predictions(np.zeros(400, int), np.full(400, 0.9), np.arange(400) > 60)
    assert fit_thresholds(worse, ["a"], 0.97).by_class == (None,)
