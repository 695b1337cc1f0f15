"""Calibration: of predictions with 90 % confidence, 90 % should be right.

Temperature scaling (C. Guo, G. Pleiss, Y. Sun, K. Weinberger, On Calibration of Modern Neural
Networks, ICML 2017) divides logits by one number. A network that was trained with class weights
also gets a bias for each class, so that confidence holds for the frequencies of the classes as they
are. Labels are those of the network itself, in both cases.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from visionflows.evaluation.metrics import log_losses

BINS = 15  # of equal width, as in the paper
_MAX_LOG = 3.0  # |log| of a temperature: beyond 20 and 1/20 a network is beyond help
# Prior of the log of a temperature: its standard deviation around 0. The paper finds temperatures
# from 1 to 3. The prior weighs no more than a few wrong labels.
_PRIOR_STD = 0.5  # of a bias too, around the one that undoes the class weights


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

    The prior of a bias is minus the logarithm of the class weight, which is right for a network
    that learned the weighted frequencies exactly; classes with few images stay near it.
    """
    from scipy.optimize import minimize

    logits, prior = _logits(probabilities), -np.log(np.asarray(class_weights, float))

    def loss(values: np.ndarray) -> float:
        log_temperature, bias = values[0], values[1:]
        distance = (log_temperature**2 + ((bias - prior) ** 2).sum()) / _PRIOR_STD**2 / 2
        losses = log_losses(logits / np.exp(log_temperature) + bias, targets)
        return float(distance + losses.sum())

    bounds = [(-_MAX_LOG, _MAX_LOG), *[(None, None)] * len(prior)]
    found = minimize(loss, np.concatenate([[0.0], prior]), method="L-BFGS-B", bounds=bounds).x
    return round(float(np.exp(found[0])), 4), [round(value, 4) for value in found[1:].tolist()]


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(probabilities.astype(np.float64), 1e-30)))


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
