"""Calibration: of predictions with 90 % confidence, 90 % should be right.

Temperature scaling (C. Guo, G. Pleiss, Y. Sun, K. Weinberger, On Calibration of Modern Neural
Networks, ICML 2017) divides logits by one number, so that no label changes.
"""

from typing import Any

import numpy as np

BINS = 15  # of equal width, as in the paper
_MAX_LOG = 3.0  # |log| of a temperature: beyond 20 and 1/20 a network is beyond help
# Prior of the log of a temperature: its standard deviation around 0. The paper finds temperatures
# from 1 to 3. The prior weighs no more than a few wrong labels.
_PRIOR_STD = 0.5


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The float32 (n, classes) of a softmax whose logits are divided by the temperature.

    Logits are the logarithms of probabilities plus a constant for each row.
    """
    if temperature == 1.0:
        return probabilities
    # In float64, so that a row is the same to the bit in every batch.
    powers = np.power(probabilities.astype(np.float64), 1 / temperature)
    scaled: np.ndarray = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return scaled


def fit_temperature(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The most likely temperature for probabilities (n, classes) and targets (n,).

    The prior on its logarithm keeps it near 1 for few images, and finite if every label is right.
    """
    from scipy.optimize import minimize_scalar

    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-30))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled -= scaled.max(1, keepdims=True)
        log_likelihood = scaled[np.arange(len(targets)), targets] - np.log(np.exp(scaled).sum(1))
        return float((log_temperature / _PRIOR_STD) ** 2 / 2 - log_likelihood.sum())

    found = minimize_scalar(loss, bounds=(-_MAX_LOG, _MAX_LOG), method="bounded")
    return round(float(np.exp(found.x)), 4)


def reliability_bins(probabilities: np.ndarray, targets: np.ndarray) -> list[dict[str, Any]]:
    """The bins of a reliability diagram: count, mean confidence and accuracy of each."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
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
