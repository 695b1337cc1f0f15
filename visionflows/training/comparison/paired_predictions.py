"""Predictions of two models for the same images, none of which either was trained on.

Published error rates are not comparable: each was measured on its own model's validation images,
and a dataset that grew is split again. Here both models score the candidate's validation images,
without those that production was trained on and those of classes that only one of them knows.
"""

import csv
import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from visionflows.hashing import sha256_of
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import Model, load_model
from visionflows.models.registry import find_model
from visionflows.storage import open_storage
from visionflows.storage.base import Storage
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.training.imported_images import images_folder


class Prediction(NamedTuple):
    """A model's label of an image, and its probability."""

    label: str
    probability: float


class PairedPrediction(NamedTuple):
    """An image, its label, and the predictions of both models."""

    path: str
    label: str
    candidate: Prediction
    production: Prediction

    @property
    def is_right(self) -> tuple[bool, bool]:
        """Whether the candidate is right, and whether production is."""
        return self.candidate.label == self.label, self.production.label == self.label


@dataclasses.dataclass(frozen=True)
class PairedPredictions:
    """Two models and their predictions for the images in `source`.

    `not_compared` counts images of classes that production does not know. `gone` counts images
    that are missing, have changed since the training, or cannot be decoded.
    """

    candidate: Model
    production: Model
    pairs: list[PairedPrediction]
    not_compared: int
    gone: int
    source: Storage

    @property
    def same_validation_images(self) -> bool:
        """Whether both models were validated on the same images, compared by SHA-256."""
        return _validation_images(self.candidate) == _validation_images(self.production)

    @property
    def new_classes(self) -> list[str]:
        """The classes that only the candidate knows, sorted."""
        return sorted({*self.candidate.classes} - {*self.production.classes})

    @property
    def lost_classes(self) -> list[str]:
        """The classes that only production knows, sorted."""
        return sorted({*self.production.classes} - {*self.candidate.classes})


class _File(NamedTuple):
    label: str
    sha256: str


def pair_predictions(
    candidate: str,
    production: str,
    folder: str | Path,
    store: str | Path,
    settings: EngineSettings | None = None,
) -> PairedPredictions:
    """Return both models' predictions for the images in `folder` that neither was trained on.

    Files with the same bytes are one image. Raises ModelError, and StorageError if there is no
    such folder.
    """
    new, old = load_model(find_model(candidate, store)), load_model(find_model(production, store))
    unseen = _unseen_files(new, old)
    known = {path: file for path, file in unseen.items() if file.label in {*old.classes}}
    source = open_storage(images_folder(folder, new.info.dataset.fingerprint, store))
    paths = [*_unchanged_paths(source, known)] if known else []
    settings = settings or EngineSettings()
    new_predictions, old_predictions = (
        _predict(model, settings, source, paths) for model in (new, old)
    )
    pairs = [
        PairedPrediction(path, known[path].label, new_predictions[path], old_predictions[path])
        for path in paths
        if path in new_predictions and path in old_predictions
    ]
    not_compared, gone = len(unseen) - len(known), len(known) - len(pairs)
    return PairedPredictions(new, old, pairs, not_compared, gone, source)


def _unseen_files(new: Model, old: Model) -> dict[str, _File]:
    """Return the new model's validation files, by path, that the old one was not trained on."""
    trained_on = {row["sha256"] for row in _read_files_csv(old) if row["is_valid"] != "True"}
    rows = (row for row in _read_files_csv(new) if row["is_valid"] == "True")
    unseen = {row["sha256"]: row for row in rows if row["sha256"] not in trained_on}
    return {row["path"]: _File(row["label"], row["sha256"]) for row in unseen.values()}


def _validation_images(model: Model) -> set[str]:
    return {row["sha256"] for row in _read_files_csv(model) if row["is_valid"] == "True"}


def _read_files_csv(model: Model) -> Iterable[dict[str, str]]:
    return csv.DictReader(io.StringIO(model.storage.read("files.csv").decode(), newline=""))


def _unchanged_paths(source: Storage, files: dict[str, _File]) -> Iterable[str]:
    """Yield the paths of the files that still have their content, in the order of `source`."""
    entries = [entry for entry in source.walk() if encode_name(entry.name) in files]
    for entry, data in zip(entries, source.read_many(entries), strict=True):
        path = encode_name(entry.name)
        if isinstance(data, bytes) and sha256_of(data) == files[path].sha256:
            yield path


def _predict(
    model: Model, settings: EngineSettings, source: Storage, paths: list[str]
) -> dict[str, Prediction]:
    """Return a model's predictions by path; images that cannot be decoded are left out."""
    if not paths:
        return {}
    answers = make_engine(model, settings).predict_files(
        source, [decode_name(path) for path in paths]
    )
    predictions = {}
    for name, probabilities in answers.items():
        best = int(probabilities.argmax())
        label, probability = model.classes[best], float(probabilities[best])
        predictions[encode_name(name)] = Prediction(label, probability)
    return predictions
