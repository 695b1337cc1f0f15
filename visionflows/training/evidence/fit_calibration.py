"""Fit the calibration of a network on its validation images, and measure its calibration error.

The published calibration is fitted on all of them. The error of each half is measured with the
calibration of the other half. An image's content decides its half, so copies stay together.
"""

from typing import Any

import numpy as np
import pandas as pd

from visionflows.evaluation.calibration import (
    calibrate,
    expected_calibration_error,
    fit_temperature,
    fit_temperature_and_bias,
    reliability_bins,
)

LEAST_WEIGHT = 1e-3  # of a class without training images
MIN_IMAGES = 50  # images per half; fewer are too few to fit or to measure


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


def validation_csv(
    paths: list[str],
    classes: list[str],
    targets: np.ndarray,
    probabilities: np.ndarray,
    calibrated: np.ndarray,
) -> bytes:
    """Return validation.csv: the label and the prediction of each validation image."""
    names, best = np.array(classes, object), (np.arange(len(paths)), probabilities.argmax(1))
    table = pd.DataFrame({"path": paths, "label": names[targets], "predicted": names[best[1]]})
    table = table.assign(confidence=calibrated[best], raw=probabilities[best])
    return csv_bytes(table, "%.6f")


def csv_bytes(table: pd.DataFrame, float_format: str) -> bytes:
    """Return a table as CSV (RFC 4180)."""
    text = table.to_csv(index=False, float_format=float_format, na_rep="nan", lineterminator="\r\n")
    return text.encode()
