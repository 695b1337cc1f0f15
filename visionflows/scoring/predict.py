"""Predict a few images one by one, as fastai's learn.predict does."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from visionflows.images.image_status import Status
from visionflows.inference.decoding import Row
from visionflows.inference.engine import Engine
from visionflows.storage import split_location


class Prediction(NamedTuple):
    """What a model predicts for one image; label and probabilities are empty unless it is ok."""

    path: str  # as given
    status: Status
    error: str
    label: str
    confidence: float | None  # the label's probability
    probabilities: dict[str, float]  # by class, in the order of the model
    outlier_score: float | None  # above 1: an outlier; None if the model has no outlier detector


def predict(images: Iterable[str | Path], engine: Engine) -> Iterator[Prediction]:
    """The prediction of each image, in order. Raises StorageError if storage cannot be used."""
    for image in map(str, images):
        storage, name = split_location(image)
        for rows in engine.predict_batches(storage, [[name]]):
            yield from (_prediction(image, row, engine.model.classes) for row in rows)


def _prediction(path: str, row: Row, classes: list[str]) -> Prediction:
    values = [] if row.probabilities is None else row.probabilities.tolist()
    probabilities = dict(zip(classes, values, strict=False))
    label = max(probabilities, key=probabilities.__getitem__, default="")
    confidence = probabilities.get(label)
    return Prediction(
        path, row.status, row.error, label, confidence, probabilities, row.outlier_score
    )
