"""Calibration: the temperature is correct, changes no label, and gives no certainty."""

import numpy as np
import pytest
from scipy.special import softmax

from visionflows.evaluation.calibration import (
    MIN_IMAGES,
    calibrate,
    expected_calibration_error,
    fit_calibration,
    fit_temperature,
    fit_temperature_and_bias,
    holdout_half,
    reliability_bins,
)
from visionflows.evaluation.thresholds import read_validation
from visionflows.training.evidence.evaluate import validation_csv


def drawn(count: int, too_sure: float, classes: int = 3, seed: int = 1):
    """Logits whose softmax is the truth, overconfident logits, and targets."""
    draws = np.random.default_rng(seed)
    logits = draws.normal(0, 1.5, (count, classes))
    truth = softmax(logits, 1)
    targets = (truth.cumsum(1) > draws.random((count, 1))).argmax(1)
    return truth, softmax(logits * too_sure, 1).astype(np.float32), targets


@pytest.mark.parametrize("too_sure", [0.5, 1.0, 2.5])
def test_the_true_temperature_is_found(too_sure):
    truth, answers, targets = drawn(20_000, too_sure)
    found = fit_temperature(answers, targets)
    assert found == pytest.approx(too_sure, rel=0.05)
    assert np.abs(calibrate(answers, found) - truth).max() < 0.03


def test_labels_and_sums_stay_and_rows_are_independent():
    _, answers, _ = drawn(1000, 3.0, classes=40)
    answers[:, 5] = 0  # underflow
    answers /= answers.sum(1, keepdims=True)
    found = calibrate(answers, 2.3)
    assert found.dtype == np.float32
    assert (found.argmax(1) == answers.argmax(1)).all()
    assert np.abs(found.sum(1) - 1).max() < 1e-6
    assert (found[:, 5] == 0).all()
    for at in range(0, 1000, 37):
        assert calibrate(answers[at : at + 1], 2.3).tobytes() == found[at].tobytes()


def test_a_network_that_is_always_right_is_not_made_certain():
    """Without a prior the most likely temperature is 0, with every probability 1."""
    targets = np.arange(200) % 2
    answers = np.where(np.eye(2)[targets] == 1, 0.8, 0.2).astype(np.float32)
    sure = calibrate(answers, fit_temperature(answers, targets)).max()
    assert 0.98 < sure < 0.9995


@pytest.mark.parametrize("seed", range(5))
def test_a_few_images_move_a_temperature_a_little(seed):
    """One confident error among fifty must not make all probabilities small."""
    sure = np.random.default_rng(seed).uniform(0.9, 0.999, 50)
    answers = np.stack([sure, 1 - sure], 1).astype(np.float32)
    assert 0.5 < fit_temperature(answers, np.zeros(50, int)) < 1
    answers[0] = 0.9999, 0.0001
    assert 1 < fit_temperature(answers, np.eye(50, dtype=int)[0]) < 2.5


def test_the_expected_calibration_error():
    answers = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10, np.float32)
    targets = np.array([0] * 7 + [1] * 3 + [0] * 6 + [1] * 4)
    bins = reliability_bins(answers.max(1), answers.argmax(1) == targets)
    assert sum(one["count"] for one in bins) == 20
    assert expected_calibration_error(bins) == pytest.approx(0.5 * 0.2 + 0.5 * 0.0, abs=1e-6)


EVEN = np.ones(3)  # class weights


def sha256s(count: int) -> list[str]:
    return [f"{at * 2654435761 % 2**32:08x}" + "0" * 56 for at in range(count)]


def test_calibration_is_tested_on_images_it_was_not_fitted_on():
    _, answers, targets = drawn(4000, 2.0)
    found = fit_calibration(answers, targets, sha256s(4000), EVEN)
    assert found["fitted"] == found["tested"] == 4000
    assert found["temperature"] == fit_temperature(answers, targets)
    assert found["ece"] < 0.5 * found["ece_raw"]
    half = holdout_half(sha256s(4000))
    swapped = targets.copy()
    swapped[half] = (targets[half] + 1) % 3  # fitted on one half, evaluated on the other
    worse = fit_calibration(answers, swapped, sha256s(4000), EVEN)
    assert worse["ece"] > found["ece_raw"]
    again = fit_calibration(answers[::-1], targets[::-1], sha256s(4000)[::-1], EVEN)
    assert again["temperature"] == found["temperature"]  # the half depends only on the contents


def test_names_of_every_kind_come_back_from_validation_csv():
    paths = ["a\rb.jpg", 'a"b,c.jpg', "a\nb.jpg", "a\r\nb.jpg"]
    answers = np.array([[0.9, 0.1]] * 4, np.float32)
    data = validation_csv(paths, ["x\ry", "z"], np.array([0, 1, 0, 1]), answers, answers)
    found = read_validation(data, ["x\ry", "z"], raw=False)
    assert found.right.tolist() == [True, False, True, False]


def test_too_few_images_leave_probabilities_as_they_are():
    _, answers, targets = drawn(MIN_IMAGES, 2.0)
    found = fit_calibration(answers, targets, sha256s(MIN_IMAGES), EVEN)
    assert found["temperature"] == 1
    assert "too few" in found["why"]


@pytest.mark.parametrize("wrong", [1.0, 1.5])
def test_a_bias_brings_back_the_natural_frequencies(wrong):
    """A network trained with class weights is as sure as the classes are frequent, afterwards."""
    rng = np.random.default_rng(0)
    shares = np.array([0.9, 0.08, 0.02])
    logits = rng.normal(size=(6000, 3)) * 2 + np.log(shares)
    truth = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = np.array([rng.choice(3, p=row) for row in truth])
    weights = 1 / shares / (1 / shares * shares).sum()
    weighted = truth * weights**wrong  # 1.5: the network has not learned them exactly
    weighted /= weighted.sum(1, keepdims=True)
    temperature, bias = fit_temperature_and_bias(weighted, targets, weights)
    found = calibrate(weighted.astype(np.float32), temperature, bias)
    assert np.abs(found - truth).mean() < 0.02
    assert np.abs(found - truth).mean() < 0.2 * np.abs(weighted - truth).mean()
    calibration = fit_calibration(weighted, targets, sha256s(6000), weights)
    assert calibration["ece"] < 0.03
    assert calibration["ece_raw"] > 0.05


@pytest.mark.parametrize("learned", [0.4, 1.0])
def test_a_few_images_tell_how_much_of_the_class_weights_was_learned(learned):
    rng = np.random.default_rng(1)
    shares = np.array([0.85, 0.12, 0.03])
    logits = rng.normal(size=(4000, 3)) + np.log(shares)
    truth = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = np.array([rng.choice(3, p=row) for row in truth])
    weights = 1 / shares / 3
    weighted = truth * weights**learned
    weighted /= weighted.sum(1, keepdims=True)
    few = fit_calibration(weighted[:60], targets[:60], sha256s(60), weights)
    assert "too few" in few["why"]
    found = calibrate(weighted.astype(np.float32), few["temperature"], few["bias"])
    undone = calibrate(weighted.astype(np.float32), 1.0, -np.log(weights))
    error, undone_error = (np.abs(each - truth).mean() for each in (found, undone))
    assert error < 0.05
    assert learned == 1 or error < 0.5 * undone_error  # what was published before


def test_without_class_weights_there_is_no_bias():
    _, answers, targets = drawn(4000, 2.0)
    assert fit_calibration(answers, targets, sha256s(4000), EVEN)["bias"] == []
