"""Calibration: of predictions with 90 % confidence, 90 % should be right.

Temperature scaling (C. Guo, G. Pleiss, Y. Sun, K. Weinberger, On Calibration of Modern Neural
Networks, ICML 2017) divides logits by one number. A network that was trained with class weights
also gets a bias for each class, so that confidence holds for the frequencies of the classes as they
are. Labels are those of the network itself, in both cases.

The published calibration is fitted on all validation images. The error of each half is measured
with the calibration of the other half. An image's content decides its half, so copies stay
together.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from visionflows.evaluation.metrics import log_losses

BINS = 15  # of equal width, as in the paper
LEAST_WEIGHT = 1e-3  # of a class without training images
MIN_IMAGES = 50  # images per half; fewer are too few to fit or to measure
_MAX_LOG = 3.0  # |log| of a temperature: beyond 20 and 1/20 a network is beyond help
# Prior of the log of a temperature: its standard deviation around 0. The paper finds temperatures
# from 1 to 3. The prior weighs no more than a few wrong labels.
_PRIOR_STD = 0.5
# Standard deviation of a bias around its mean. Of 0.1, 0.25 and 0.5 it was the best on the data of
# bench/balance.py.
_BIAS_STD = 0.25


def calibrate(
    probabilities: np.ndarray, temperature: float, bias: Sequence[float] = ()
) -> np.ndarray:
    """The float32 (n, classes) of a softmax of logits / temperature + bias.

    Logits are the logarithms of probabilities plus a constant for each row.
    """
    if temperature == 1.0 and not len(bias):
        return probabilities
    # In float64, so that a row is the same to the bit in every batch.
    powers = np.power(probabilities.astype(np.float64), 1 / temperature)
    if len(bias):
        powers *= np.exp(np.asarray(bias))
    scaled: np.ndarray = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return scaled


def fit_temperature(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The most likely temperature for probabilities (n, classes) and targets (n,).

    The prior on its logarithm keeps it near 1 for few images, and finite if every label is right.
    """
    from scipy.optimize import minimize_scalar

    logits = _logits(probabilities)

    def loss(log_temperature: float) -> float:
        losses = log_losses(logits / np.exp(log_temperature), targets)
        return float((log_temperature / _PRIOR_STD) ** 2 / 2 + losses.sum())

    found = minimize_scalar(loss, bounds=(-_MAX_LOG, _MAX_LOG), method="bounded")
    return round(float(np.exp(found.x)), 4)


def fit_temperature_and_bias(
    probabilities: np.ndarray, targets: np.ndarray, class_weights: Sequence[float]
) -> tuple[float, list[float]]:
    """The most likely temperature and bias of each class, for a network trained with class weights.

    Minus the logarithm of its weight is the bias of a class if the network learned the weighted
    frequencies exactly. A regularised network learns a part of them. That part is fitted too, with
    a prior around 1, and gives the mean of the biases. So a few images are enough.
    """
    from scipy.optimize import minimize

    undone = -np.log(np.asarray(class_weights, float))
    start = np.array([0.0, 1.0, *np.zeros(len(undone))])
    bounds = [(-_MAX_LOG, _MAX_LOG), *[(None, None)] * (len(start) - 1)]
    fixed = (_logits(probabilities), targets, undone)
    found = minimize(_bias_loss, start, fixed, "L-BFGS-B", jac=True, bounds=bounds).x
    bias = found[1] * undone + found[2:]
    return round(float(np.exp(found[0])), 4), [round(value, 4) for value in bias.tolist()]


def _bias_loss(
    values: np.ndarray, logits: np.ndarray, targets: np.ndarray, undone: np.ndarray
) -> tuple[float, np.ndarray]:
    """Minus the logarithm of the posterior, and its gradient.

    `values` are the log of the temperature, the part of `undone` (classes,), and each bias' rest.
    """
    from scipy.special import log_softmax

    scaled = logits / np.exp(values[0])
    logs = log_softmax(scaled + values[1] * undone + values[2:], axis=1)
    distance = values - np.array([0.0, 1.0, *np.zeros(len(undone))])
    precision = np.array([_PRIOR_STD, _PRIOR_STD, *np.full(len(undone), _BIAS_STD)]) ** -2
    rows = np.arange(len(targets))
    loss = -logs[rows, targets].sum() + (precision * distance**2).sum() / 2
    by_logit = np.exp(logs)
    by_logit[rows, targets] -= 1
    by_bias = by_logit.sum(0)
    gradient = np.array([-(by_logit * scaled).sum(), by_bias @ undone, *by_bias])
    return float(loss), gradient + precision * distance


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(probabilities.astype(np.float64), 1e-30)))


def fit_calibration(
    probabilities: np.ndarray, targets: np.ndarray, sha256s: list[str], class_weights: np.ndarray
) -> dict[str, Any]:
    """Return `calibration` of model.json: see `Calibration`.

    `probabilities` (n, classes) are those of validation images, `targets` (n,) their classes, and
    `class_weights` (classes,) those of the training, all 1 without any. With too few images there
    is only temperature (1 without class weights), bias and why.
    """
    half, weighted = holdout_half(sha256s), bool((class_weights != 1).any())

    def fit(rows: np.ndarray) -> tuple[float, list[float]]:
        if not weighted:
            return fit_temperature(probabilities[rows], targets[rows]), []
        weights = np.maximum(class_weights, LEAST_WEIGHT)
        return fit_temperature_and_bias(probabilities[rows], targets[rows], weights)

    everything = np.ones(len(half), bool)
    if min(half.sum(), (~half).sum()) < MIN_IMAGES:
        why = f"{len(half)} validation images are too few to calibrate on"
        # The bias has a prior, so a few images are enough. A temperature of so few does harm.
        temperature, bias = fit(everything) if weighted else (1.0, [])
        return {"temperature": temperature, "bias": bias, "why": why}
    cross_fitted = np.empty_like(probabilities)
    for rows in (half, ~half):
        cross_fitted[rows] = calibrate(probabilities[rows], *fit(~rows))
    temperature, bias = fit(everything)
    return {
        "temperature": temperature,
        "bias": bias,
        "fitted": len(half),
        "tested": len(half),
        **_calibration_error(probabilities, cross_fitted, targets),
    }


def _calibration_error(
    raw: np.ndarray, calibrated: np.ndarray, targets: np.ndarray
) -> dict[str, Any]:
    """Return ece_raw, ece, bins_raw and bins of the same labels with two confidences."""
    rows, predicted = np.arange(len(targets)), raw.argmax(1)
    before, after = (
        reliability_bins(values[rows, predicted], predicted == targets)
        for values in (raw, calibrated)
    )
    ece_raw, ece = map(expected_calibration_error, (before, after))
    return {"ece_raw": ece_raw, "ece": ece, "bins_raw": before, "bins": after}


def holdout_half(sha256s: list[str]) -> np.ndarray:
    """Return which validation images are held out to measure: (n,) of bool, by their content.

    Images of a group are in one half if they have the sha256 of `same_side_keys`.
    """
    return np.array([int(sha256[:8], 16) % 2 == 1 for sha256 in sha256s], bool)


def reliability_bins(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """The bins of a reliability diagram: count, mean confidence and accuracy of each.

    `confidence` (n,) are the probabilities of labels, `right` (n,) whether each is the class.
    """
    at = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "count": int(inside.sum()),
            "confidence": float(confidence[inside].mean()) if inside.any() else 0.0,
            "accuracy": float(right[inside].mean()) if inside.any() else 0.0,
        }
        for inside in (at == bin_ for bin_ in range(BINS))
    ]


def expected_calibration_error(bins: list[dict[str, Any]]) -> float:
    """The mean over all images of the difference between confidence and accuracy of their bin."""
    total = sum(one["count"] for one in bins)
    error = sum(one["count"] * abs(one["confidence"] - one["accuracy"]) for one in bins)
    return error / total if total else 0.0
