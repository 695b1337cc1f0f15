"""Probabilities that mean what they say: of answers that are 90 % sure, 90 % are right.

    from visionflows.evaluation.calibration import calibrated, expected_error, temperature_of
    calibrated(probabilities, temperature_of(probabilities, targets))

Temperature scaling (C. Guo, G. Pleiss, Y. Sun, K. Weinberger, On Calibration of Modern Neural
Networks, ICML 2017): logits are divided by one number, so that no label changes. Only numpy is
needed to apply it.
"""

from typing import Any

import numpy as np

BINS = 15  # of equal width, as in the paper above
_WIDEST = 3.0  # |log| of a temperature: beyond 20 and 1/20 a network is beyond help
# How far the log of one lies from 0, before any image has spoken: a standard deviation. The paper
# above finds temperatures from 1 to 3. It is worth no more than a few wrong labels.
_USUAL = 0.5


def calibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The float32 (n, classes) that a softmax gives of logits divided by the temperature.

    Computed of the probabilities alone: logits are their logarithms but for one summand a row.
    """
    if temperature == 1.0:
        return probabilities
    # In float64: an answer is the same to the bit whatever lies beside it in the batch.
    powers = np.power(probabilities.astype(np.float64), 1 / temperature)
    told: np.ndarray = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return told


def temperature_of(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The likeliest temperature, as targets (n,) tell of probabilities (n, classes).

    Before they are seen its logarithm is normally distributed about 0: a few images move it a
    little, and where every label is right, no answer becomes certain for that.
    """
    from scipy.optimize import minimize_scalar

    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-30))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled -= scaled.max(1, keepdims=True)
        told = scaled[np.arange(len(targets)), targets] - np.log(np.exp(scaled).sum(1))
        return float((log_temperature / _USUAL) ** 2 / 2 - told.sum())

    found = minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded")
    return round(float(np.exp(found.x)), 4)


def reliability(probabilities: np.ndarray, targets: np.ndarray) -> list[dict[str, Any]]:
    """The bins of a reliability diagram: count, mean confidence and accuracy of each."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    at = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "count": int(here.sum()),
            "confidence": float(confidence[here].mean()) if here.any() else 0.0,
            "accuracy": float(right[here].mean()) if here.any() else 0.0,
        }
        for here in (at == bin_ for bin_ in range(BINS))
    ]


def expected_error(bins: list[dict[str, Any]]) -> float:
    """The expected calibration error: by how much confidence and accuracy of a bin differ, on
    average over the images."""
    total = sum(one["count"] for one in bins)
    apart = sum(one["count"] * abs(one["confidence"] - one["accuracy"]) for one in bins)
    return apart / total if total else 0.0
