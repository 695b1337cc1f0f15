"""Fit the temperature of a network on its validation images, and measure its calibration error.

The published temperature is fitted on all of them. The error of each half is measured with the
temperature of the other half. An image's content decides its half, so copies stay together.
"""

import csv
import io
from typing import Any

import numpy as np

from visionflows.evaluation.calibration import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)

MIN_IMAGES = 50  # images per half; fewer are too few to fit or to measure


def fit_calibration(
    probabilities: np.ndarray, targets: np.ndarray, sha256s: list[str]
) -> dict[str, Any]:
    """Return `calibration` of model.json.

    `probabilities` (n, classes) are those of validation images, `targets` (n,) their classes.
    Keys: temperature, fitted and tested (image counts), ece_raw and ece (expected calibration
    error before and after), bins_raw and bins. With too few images only temperature (1) and why.
    """
    half = holdout_half(sha256s)
    if min(half.sum(), (~half).sum()) < MIN_IMAGES:
        why = f"{len(half)} validation images are too few to calibrate on"
        return {"temperature": 1.0, "why": why}
    cross_fitted = np.empty_like(probabilities)
    for rows in (half, ~half):
        temperature = fit_temperature(probabilities[~rows], targets[~rows])
        cross_fitted[rows] = apply_temperature(probabilities[rows], temperature)
    before, after = (reliability_bins(values, targets) for values in (probabilities, cross_fitted))
    return {
        "temperature": fit_temperature(probabilities, targets),
        "fitted": len(half),
        "tested": len(half),
        "ece_raw": expected_calibration_error(before),
        "ece": expected_calibration_error(after),
        "bins_raw": before,
        "bins": after,
    }


def holdout_half(sha256s: list[str]) -> np.ndarray:
    """Return which validation images are held out to measure: (n,) of bool, by their content."""
    return np.array([int(sha256[:8], 16) % 2 == 1 for sha256 in sha256s], bool)


def validation_csv(
    paths: list[str],
    classes: list[str],
    targets: np.ndarray,
    probabilities: np.ndarray,
    temperature: float,
) -> bytes:
    """Return validation.csv: the label and the prediction of each validation image."""
    confidence = apply_temperature(probabilities, temperature).max(1)
    predicted, raw = probabilities.argmax(1), probabilities.max(1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["path", "label", "predicted", "confidence", "raw"])
    for row, path in enumerate(paths):
        label, prediction = classes[targets[row]], classes[predicted[row]]
        writer.writerow([path, label, prediction, f"{confidence[row]:.6f}", f"{raw[row]:.6f}"])
    return text.getvalue().encode()
