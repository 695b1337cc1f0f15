"""Calibration of several labels a photo: of labels with 90 % probability, 90 % should be there.

Platt scaling (J. Platt, Probabilistic Outputs for Support Vector Machines, 1999) of each class: the
sigmoid of scale * logit + bias. Few images of a class fit no scale and bias of its own, so both
have a prior: all classes together fit a common scale and bias, near 1 and 0, and each class is near
these (empirical Bayes). On 312 photos of Pascal VOC, log losses of images that were not fitted on:
0.132 raw, 0.129 with this, 0.135 with a scale and bias of each class near 1 and 0.

The published calibration is fitted on all validation images. The error of each half is measured
with the calibration of the other half, as in evaluation.calibration.
"""

from typing import Any

import numpy as np

from visionflows.evaluation.calibration import MIN_IMAGES, holdout_half
from visionflows.evaluation.label_decisions import calibrate_each, logits_of, pair_calibration
from visionflows.models.metrics_schema import Calibration

_COMMON_STD = 0.5  # of the log of the scale, and of the bias, of all classes together
_CLASS_STD = 0.1  # the same of a class around these; 0.25 and 0.5 were worse


def fit_label_calibration(
    probabilities: np.ndarray, targets: np.ndarray, sha256s: list[str]
) -> dict[str, Any]:
    """Return `calibration` of model.json: see `Calibration`.

    `probabilities` and `targets` (bool) are (n, classes), of validation images.
    """
    half, logits = holdout_half(sha256s), logits_of(probabilities)
    found = fit_platt(logits, targets)
    if min(half.sum(), (~half).sum()) < MIN_IMAGES:
        why = f"{len(half)} validation images are too few to measure the calibration on"
        return {**found, "fitted": len(half), "why": why}
    cross_fitted = np.empty_like(probabilities)
    for rows in (half, ~half):
        other = Calibration.model_validate(fit_platt(logits[~rows], targets[~rows]), strict=False)
        cross_fitted[rows] = calibrate_each(probabilities[rows], other)
    raw, calibrated = (pair_calibration(one, targets) for one in (probabilities, cross_fitted))
    return {
        **found,
        "fitted": len(half),
        "tested": len(half),
        **{"ece_raw": raw["ece"], "bins_raw": raw["bins"], **calibrated},
    }


def fit_platt(logits: np.ndarray, targets: np.ndarray) -> dict[str, list[float]]:
    """The most likely scale and bias of each class, for logits and targets (n, classes)."""
    common = _fit(logits.ravel(), targets.ravel(), np.zeros(2), _COMMON_STD)
    columns = zip(logits.T, targets.T, strict=True)
    fitted = np.array([_fit(*column, common, _CLASS_STD) for column in columns])
    scale, bias = np.exp(fitted[:, 0]), fitted[:, 1]
    return {"scale": scale.round(4).tolist(), "bias": bias.round(4).tolist()}


def _fit(
    logits: np.ndarray, targets: np.ndarray, centre: np.ndarray, deviation: float
) -> np.ndarray:
    """The log of the scale, and the bias, with a normal prior around a centre."""
    from scipy.optimize import minimize
    from scipy.special import expit

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = np.exp(values[0]) * logits
        shifted, distance = scaled + values[1], (values - centre) / deviation
        losses = np.logaddexp(0, shifted) - targets * shifted
        by_logit = expit(shifted) - targets
        gradient = np.array([by_logit @ scaled, by_logit.sum()]) + distance / deviation
        return float(losses.sum() + distance @ distance / 2), gradient

    bounds = [(-3.0, 3.0), (None, None)]
    return np.asarray(minimize(loss, centre, jac=True, bounds=bounds, method="L-BFGS-B").x)
