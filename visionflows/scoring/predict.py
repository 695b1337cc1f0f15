"""Predict a few images one by one, as fastai's learn.predict does."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from visionflows.images.image_status import Status
from visionflows.inference.engine import Engine
from visionflows.inference.labels import label_and_confidence
from visionflows.storage import split_location


class Prediction(NamedTuple):
    """What a model predicts for one image; label and probabilities are empty unless it is ok."""

    path: str  # as given
    status: Status
    error: str
    label: str  # of several labels: all, as predictions.csv has them
    confidence: float | None  # the label's probability; of several: that of the least certain one
    probabilities: dict[str, float]  # by class, in the order of the model
    outlier_score: float | None  # above 1: an outlier; None if the model has no outlier detector
    labels: tuple[str, ...] = ()


def predict(images: Iterable[str | Path], engine: Engine) -> Iterator[Prediction]:
    """The prediction of each image, in order. Raises StorageError if storage cannot be used."""
    for image in map(str, images):
        storage, name = split_location(image)
        for row in itertools.chain.from_iterable(engine.predict_batches(storage, [[name]])):
            values = [] if row.probabilities is None else row.probabilities.tolist()
            classes, score = engine.model.classes, row.outlier_score
            probabilities = dict(zip(classes, values, strict=False))
            label, confidence = label_and_confidence(row, classes) if values else ("", None)
            labels = tuple(classes[at] for at in row.labels or (row.label,) if at >= 0)
            error = "no such file" if row.status == "missing" else row.error
            found = label, confidence, probabilities, score, labels
            yield Prediction(image, row.status, error, *found)
