"""What two models say of the same images, which neither was trained on.

    from visionflows.training.comparison.paired_predictions import PairedPrediction, pair_predictions
    pairs = pair_predictions("pets@latest", "pets@production", "store/datasets/pets-5c1a3d0f", "store")
    pairs.answers[0].candidate, pairs.answers[0].production      # a label each

Published error rates may not be compared: each was measured on its own model's validation images,
and a dataset that grew is split anew. So both models label the same images now: the candidate's
validation images, less those that the other one was trained on (told by their sha256) and those of
classes that only one of the two knows.
"""

import csv
import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from visionflows.hashing import sha256_of
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import Model, load
from visionflows.models.registry import find
from visionflows.storage import open_storage
from visionflows.storage.base import Storage
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.training.imported_images import images_of


class Prediction(NamedTuple):
    """A model's label of an image, and its probability."""

    label: str
    probability: float


class PairedPrediction(NamedTuple):
    """An image by its path, the label it has, and what each of the two models says of it."""

    path: str
    label: str
    candidate: Prediction
    production: Prediction

    @property
    def right(self) -> tuple[bool, bool]:
        """Whether the candidate is right, and whether production is."""
        return self.candidate.label == self.label, self.production.label == self.label


@dataclasses.dataclass(frozen=True)
class PairedPredictions:
    """Two models and their answers.

    `not_compared` counts images whose class the other does not know, `gone` those that are not
    in the folder any more as they were trained on, or cannot be opened. `source` is where they lie.
    """

    candidate: Model
    production: Model
    answers: list[PairedPrediction]
    not_compared: int
    gone: int
    source: Storage

    @property
    def new_classes(self) -> list[str]:
        """Those that the candidate alone knows, in order."""
        return sorted({*self.candidate.classes} - {*self.production.classes})

    @property
    def lost_classes(self) -> list[str]:
        """Those that production alone knows, in order."""
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
    """What both models say of the images in `folder` that neither was trained on.

    The same bytes are one image. One that is gone, has changed since it was trained on, or cannot
    be opened counts for neither. Raises ModelError, and PlaceError where there is no such folder.
    """
    new, old = load(find(candidate, store)), load(find(production, store))
    unseen = _unseen(new, old)
    known = {path: file for path, file in unseen.items() if file.label in {*old.classes}}
    source = open_storage(images_of(folder, new.info.dataset.fingerprint, store))
    there = [*_unchanged(source, known)] if known else []
    said = [_said(model, settings or EngineSettings(), source, there) for model in (new, old)]
    answers = [
        PairedPrediction(path, known[path].label, said[0][path], said[1][path])
        for path in there
        if path in said[0] and path in said[1]
    ]
    return PairedPredictions(
        new, old, answers, len(unseen) - len(known), len(known) - len(answers), source
    )


def _unseen(new: Model, old: Model) -> dict[str, _File]:
    """The files, by path, of what the new model was validated on and the old did not learn."""
    learnt = {row["sha256"] for row in _files(old) if row["is_valid"] != "True"}
    rows = (row for row in _files(new) if row["is_valid"] == "True")
    unseen = {row["sha256"]: row for row in rows if row["sha256"] not in learnt}
    return {row["path"]: _File(row["label"], row["sha256"]) for row in unseen.values()}


def _files(model: Model) -> Iterable[dict[str, str]]:
    return csv.DictReader(io.StringIO(model.storage.read("files.csv").decode(), newline=""))


def _unchanged(source: Storage, files: dict[str, _File]) -> Iterable[str]:
    """The paths of the files that lie in a place with the bytes they had, in its order."""
    entries = [entry for entry in source.walk() if encode_name(entry.name) in files]
    for entry, data in zip(entries, source.read_many(entries), strict=True):
        path = encode_name(entry.name)
        if isinstance(data, bytes) and sha256_of(data) == files[path].sha256:
            yield path


def _said(
    model: Model, settings: EngineSettings, source: Storage, paths: list[str]
) -> dict[str, Prediction]:
    """What a model says of each image, by path; one that cannot be opened is left out."""
    if not paths:
        return {}
    answers = make_engine(model, settings).answers(source, [decode_name(path) for path in paths])
    best = {encode_name(name): (int(found.argmax()), found) for name, found in answers.items()}
    return {
        path: Prediction(model.classes[at], float(found[at])) for path, (at, found) in best.items()
    }
