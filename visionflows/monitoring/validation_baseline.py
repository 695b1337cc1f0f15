"""What a model predicted on its validation images: the baseline of its first scoring run."""

import csv
import logging

from visionflows.errors import StorageError
from visionflows.evaluation.thresholds import read_validation
from visionflows.models.artifact import VALIDATION, Model
from visionflows.monitoring.run_records import HistogramCounter, Histograms, confidence_bin

log = logging.getLogger("visionflows.history")


def read_validation_baseline(model: Model, raw: bool = False) -> Histograms | None:
    """Histograms of labels and confidence (uncalibrated if `raw`) in validation.csv, if any."""
    try:
        found = read_validation(model.files.read(VALIDATION), model.classes, raw)
    except (OSError, KeyError, TypeError, ValueError, csv.Error, StorageError) as error:
        log.warning("%s: its validation predictions cannot be read: %s", model.storage, error)
        return None
    counter = HistogramCounter()
    for at, confidence in zip(found.predicted.tolist(), found.confidence.tolist(), strict=True):
        counter.add(labels=model.classes[at], confidence=confidence_bin(confidence))
    return counter.histograms() if len(found.predicted) else None
