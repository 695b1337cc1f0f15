"""Fit the temperature of a network on its validation images, and judge that on others.

    from visionflows.training.evidence.fit_calibration import fit_calibration
    fit_calibration(probabilities, targets, sha256s)["ece"]        # 0.011

What is kept comes of all of them; each half is judged by what the other alone would give. Which
half an image is in follows from its content, so that copies are on one side.
"""

import csv
import io
from typing import Any

import numpy as np

from visionflows.evaluation.calibration import (
    calibrated,
    expected_error,
    reliability,
    temperature_of,
)

LEAST = 50  # images a half: fewer say too little of either


def fit_calibration(
    probabilities: np.ndarray, targets: np.ndarray, sha256s: list[str]
) -> dict[str, Any]:
    """What model.json says of how sure a model may be believed (`calibration`).

    `probabilities` (n, classes) are the network's own of validation images, `targets` (n,) their
    classes. Keys: temperature, fitted and judged (images), ece_raw and ece (expected calibration
    error before and after), bins_raw and bins; with too few images temperature is 1, and `why` says
    so.
    """
    half = holdout_half(sha256s)
    if min(half.sum(), (~half).sum()) < LEAST:
        why = f"{len(half)} validation images are too few to calibrate on"
        return {"temperature": 1.0, "why": why}
    crossed = np.empty_like(probabilities)
    for ours in (half, ~half):
        theirs = temperature_of(probabilities[~ours], targets[~ours])
        crossed[ours] = calibrated(probabilities[ours], theirs)
    before, after = (reliability(told, targets) for told in (probabilities, crossed))
    return {
        "temperature": temperature_of(probabilities, targets),
        "fitted": len(half),
        "judged": len(half),
        "ece_raw": expected_error(before),
        "ece": expected_error(after),
        "bins_raw": before,
        "bins": after,
    }


def holdout_half(sha256s: list[str]) -> np.ndarray:
    """Which validation images judge what the others were for: (n,) of bool, by content alone."""
    return np.array([int(sha256[:8], 16) % 2 == 1 for sha256 in sha256s], bool)


def validation_csv(
    paths: list[str],
    classes: list[str],
    targets: np.ndarray,
    probabilities: np.ndarray,
    temperature: float,
) -> bytes:
    """validation.csv: what the network says of each validation image, and what it is."""
    sure = calibrated(probabilities, temperature).max(1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["path", "label", "predicted", "confidence", "raw"])
    best, raw = probabilities.argmax(1), probabilities.max(1)
    for at, path in enumerate(paths):
        label, said = classes[targets[at]], classes[best[at]]
        writer.writerow([path, label, said, f"{sure[at]:.6f}", f"{raw[at]:.6f}"])
    return text.getvalue().encode()
