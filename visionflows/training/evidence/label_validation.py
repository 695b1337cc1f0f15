"""Measure a network that gives several labels on the validation images.

Adds to the checkpoint what evidence.evaluate adds for one label: `confusion.csv`, and
`validation.csv`.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from visionflows.datasets.split import near_duplicate_ids, same_side_keys
from visionflows.evaluation.label_calibration import fit_label_calibration
from visionflows.evaluation.label_decisions import (
    calibrate_each,
    calibrated_thresholds,
    certainty,
    has_labels,
)
from visionflows.evaluation.label_metrics import compute_label_metrics
from visionflows.evaluation.metrics import confusion_csv
from visionflows.label_sets import join_labels
from visionflows.models.metrics_schema import Calibration
from visionflows.storage.local import LocalStorage
from visionflows.training.evidence.top_losses import WrongLabel

if TYPE_CHECKING:
    from fastai.learner import Learner


def measure_labels(
    learn: "Learner", probabilities: np.ndarray, targets: np.ndarray, storage: LocalStorage
) -> tuple[dict[str, Any], list[WrongLabel]]:
    """Return the metrics, with calibration and decision_thresholds, and the wrong labels.

    The thresholds were chosen in the training; calibration only says what they are in calibrated
    probabilities. The most confident mistakes come first.
    """
    valid, classes, wanted = learn.dls.valid.items, [*learn.dls.vocab], targets > 0
    ids = near_duplicate_ids(valid)
    first = ~ids.duplicated().to_numpy()
    keys = same_side_keys(valid[first])
    found = fit_label_calibration(probabilities[first], wanted[first], keys)
    calibration = Calibration.model_validate(found, strict=False)
    calibrated = calibrate_each(probabilities, calibration)
    chosen = json.loads(storage.read("training.json"))["thresholds"] or [0.5] * len(classes)
    thresholds = calibrated_thresholds(chosen, calibration)
    decided = has_labels(calibrated, thresholds)
    metrics = compute_label_metrics(decided, wanted, calibrated, classes, ids.to_numpy())
    storage.write("confusion.csv", confusion_csv(metrics["confusion"], classes))
    texts = pd.DataFrame({"path": valid.path, "label": _texts(wanted, classes)})
    texts = texts.assign(predicted=_texts(decided, classes))
    texts = texts.assign(confidence=certainty(calibrated), raw=certainty(probabilities))
    csv = texts[first].to_csv(index=False, float_format="%.6f", lineterminator="\r\n")
    storage.write("validation.csv", csv.encode())
    added = {"calibration": found, "decision_thresholds": thresholds}
    return {**metrics, **added}, _mistakes(texts, calibrated, decided, wanted)


def _texts(has_label: np.ndarray, classes: list[str]) -> list[str]:
    """The labels of each image as text."""
    names = np.array(classes, object)
    return [join_labels(names[row]) for row in has_label]


def _mistakes(
    texts: pd.DataFrame, probabilities: np.ndarray, decided: np.ndarray, wanted: np.ndarray
) -> list[WrongLabel]:
    """The labels that are wrongly given, or missed, the most confident first."""
    labels, predicted = texts.label.tolist(), texts.predicted.tolist()
    certain = np.where(decided, probabilities, 1 - probabilities)
    images, classes = np.nonzero(decided != wanted)
    order = np.argsort(-certain[images, classes], kind="stable")
    pairs = zip(images[order].tolist(), classes[order].tolist(), strict=True)
    return [WrongLabel(at, labels[at], predicted[at], one, certain[at, one]) for at, one in pairs]
