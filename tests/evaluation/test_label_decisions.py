"""Decision thresholds and calibration of several labels a photo."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from visionflows.evaluation.label_calibration import fit_label_calibration, fit_platt
from visionflows.evaluation.label_decisions import (
    calibrate_each,
    calibrated_thresholds,
    certainty,
    fit_decision_thresholds,
    has_labels,
    logits_of,
    sigmoid,
)
from visionflows.models.metrics_schema import Calibration


def photos(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of three classes that are as likely as they say, and which image has which."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (images, 3)) - [0, 1, 3]
    return logits, rng.random(logits.shape) < sigmoid(logits)


def shas(images: int) -> list[str]:
    return [f"{at % 2:08x}{at:056x}" for at in range(images)]


def as_calibration(found: dict) -> Calibration:
    return Calibration.model_validate(found, strict=False)


def test_thresholds_of_many_images_have_the_highest_f1():
    logits, targets = photos(20_000)
    found = fit_decision_thresholds(sigmoid(logits), targets)
    for at, threshold in enumerate(found):
        scores = sigmoid(logits[:, at])
        best = max(f1_score(targets[:, at], scores >= one) for one in np.linspace(0.05, 0.95, 91))
        assert f1_score(targets[:, at], scores >= threshold) > best - 0.003


def test_a_class_with_few_images_is_near_the_shared_threshold():
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.05], [0.2, 0.6]] * 50)
    targets = np.array([[1, 0], [1, 0], [0, 0], [0, 0]] * 50, bool)
    targets[3, 1] = True
    common, rare = fit_decision_thresholds(scores, targets)
    none = fit_decision_thresholds(scores, targets & [True, False])[1]  # that of all classes
    assert abs(rare - none) < 0.1 < abs(common - none)


def test_a_threshold_does_not_split_equal_scores():
    scores, targets = np.array([[0.4]] * 10), np.array([[True]] * 6 + [[False]] * 4)
    (found,) = fit_decision_thresholds(scores, targets)
    assert 0.2 <= found < 0.4


def test_calibration_does_not_change_decisions():
    logits, _ = photos(3000)
    raw, thresholds = sigmoid(logits).astype(np.float32), [0.2, 0.5, 0.7]
    calibration = Calibration(scale=(0.7, 1.5, 1.0), bias=(0.3, -1.0, 0.0))
    found = calibrated_thresholds(thresholds, calibration)
    calibrated = calibrate_each(raw, calibration)
    assert np.array_equal(has_labels(calibrated, found), has_labels(raw, thresholds))
    assert not np.allclose(found, thresholds, atol=0.05)


def test_a_row_is_the_same_to_the_bit_in_every_batch():
    raw = sigmoid(photos(77)[0]).astype(np.float32)
    calibration = Calibration(scale=(0.7, 1.5, 1.0), bias=(0.3, -1.0, 0.0))
    together = calibrate_each(raw, calibration)
    assert together.dtype == np.float32
    alone = np.concatenate([calibrate_each(one[None], calibration) for one in raw])
    assert np.array_equal(together, alone)


def test_certain_probabilities_stay_finite():
    raw = np.array([[0.0, 1.0, 0.5]], np.float32)
    found = calibrate_each(raw, Calibration(scale=(2.0, 2.0, 2.0), bias=(0.0, 0.0, 0.0)))
    assert np.isfinite(logits_of(raw)).all()
    assert found == pytest.approx(np.array([[0.0, 1.0, 0.5]]), abs=1e-9)


def test_the_confidence_is_that_of_the_least_certain_decision():
    assert certainty(np.array([[0.9, 0.2, 0.01], [0.5, 1, 1]])).tolist() == [0.8, 0.5]


def test_calibration_finds_scale_and_bias_of_many_images():
    logits, targets = photos(50_000)
    found = fit_platt((logits - [0.5, 0.5, 1.5]) * 2, targets)
    assert found["scale"] == pytest.approx([0.5] * 3, abs=0.03)
    assert found["bias"] == pytest.approx([0.5, 0.5, 1.5], abs=0.15)


def test_few_images_change_little_and_many_more():
    logits, targets = photos(30)
    few, many = (fit_platt(1.5 * one[0], one[1]) for one in ((logits, targets), photos(20_000)))
    assert np.ptp(few["scale"]) < 0.1
    assert many["scale"] == pytest.approx([1 / 1.5] * 3, abs=0.03)


def test_its_error_is_measured_on_images_that_it_was_not_fitted_on():
    logits, targets = photos(2000)
    found = fit_label_calibration(sigmoid(3 * logits), targets, shas(2000))
    assert found["fitted"] == found["tested"] == 2000
    assert found["ece"] < 0.03 < found["ece_raw"]
    assert sum(one["count"] for one in found["bins"]) == 6000
    assert calibrate_each(sigmoid(3 * logits), as_calibration(found)) == pytest.approx(
        sigmoid(logits), abs=0.05
    )


def test_too_few_images_measure_nothing_but_are_used():
    logits, targets = photos(60)
    found = fit_label_calibration(sigmoid(logits), targets, shas(60))
    assert "60 validation images are too few" in found["why"]
    assert "ece" not in found
    assert len(found["scale"]) == len(found["bias"]) == 3
