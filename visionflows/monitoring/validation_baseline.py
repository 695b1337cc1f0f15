"""What a model predicted on its validation images: the baseline of its first scoring run."""

import csv
import io
import logging

from visionflows.errors import StorageError
from visionflows.hashing import sha256_of
from visionflows.models.artifact import VALIDATION, Model
from visionflows.monitoring.run_records import HistogramCounter, Histograms, confidence_bin

log = logging.getLogger("visionflows.history")


def read_validation_baseline(model: Model, raw: bool = False) -> Histograms | None:
    """Histograms of labels and confidence (uncalibrated if `raw`) in validation.csv, if any."""
    if VALIDATION not in model.info.files:
        return None
    counter, column = HistogramCounter(), "raw" if raw else "confidence"
    try:
        data = model.files.read(VALIDATION)
        if sha256_of(data) != model.info.files[VALIDATION]:
            raise ValueError(f"{VALIDATION} was changed since it was published")
        for row in csv.DictReader(io.StringIO(data.decode(), newline="")):
            counter.add(labels=row["predicted"], confidence=confidence_bin(float(row[column])))
    except (OSError, KeyError, TypeError, ValueError, csv.Error, StorageError) as error:
        log.warning("%s: its validation predictions cannot be read: %s", model.storage, error)
        return None
    histograms = counter.histograms()
    return histograms if histograms.labelled else None
