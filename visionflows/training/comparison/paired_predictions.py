"""Predictions of two models for the same images, none of which either was trained on.

Published error rates are not comparable: each was measured on its own model's validation images,
and a dataset that grew is split again. Here both models score the candidate's validation images,
without those that production was trained on and those of classes that only one of them knows.
"""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionflows.hashing import sha256_of
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import Model, load_model
from visionflows.models.registry import find_model
from visionflows.storage import open_storage
from visionflows.storage.base import Storage
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.training.imported_images import images_folder

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class PairedPredictions:
    """Two models and their predictions for the images in `source`.

    `rows` are indexed by path: label, and the label and probability that each model gives
    (candidate, candidate_probability, production, production_probability). `not_compared` counts
    images of classes that production does not know. `gone` counts images that are missing, have
    changed since the training, or cannot be decoded.
    """

    candidate: Model
    production: Model
    rows: "pd.DataFrame"
    not_compared: int
    gone: int
    source: Storage

    @property
    def candidate_is_right(self) -> "pd.Series[bool]":
        return self.rows.candidate == self.rows.label

    @property
    def production_is_right(self) -> "pd.Series[bool]":
        return self.rows.production == self.rows.label

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


def pair_predictions(
    candidate: str, production: str, folder: str | Path, store: str | Path
) -> PairedPredictions:
    """Return both models' predictions for the images in `folder` that neither was trained on.

    Files with the same bytes are one image. Raises ModelError, and StorageError if there is no
    such folder.
    """
    new, old = load_model(find_model(candidate, store)), load_model(find_model(production, store))
    unseen = _unseen_files(new, old)
    known = unseen[unseen.label.isin(old.classes)]
    source = open_storage(images_folder(folder, new.info.dataset.fingerprint, store))
    paths = [*_unchanged_paths(source, known.sha256.to_dict())] if len(known) else []
    rows = known.loc[paths, ["label"]]
    for name, model in (("candidate", new), ("production", old)):
        predictions = _predict(model, source, paths)
        predictions.columns = [name, f"{name}_probability"]
        rows = rows.join(predictions, how="inner")
    return PairedPredictions(
        new, old, rows, len(unseen) - len(known), len(known) - len(rows), source
    )


def _unseen_files(new: Model, old: Model) -> "pd.DataFrame":
    """Return the new model's validation files, by path, that the old one was not trained on."""
    files, old_files = _read_files_csv(new), _read_files_csv(old)
    trained_on = old_files.sha256[old_files.is_valid != "True"]
    unseen = files[(files.is_valid == "True") & ~files.sha256.isin(trained_on)]
    return unseen.drop_duplicates("sha256", keep="last").set_index("path")


def _validation_images(model: Model) -> set[str]:
    files = _read_files_csv(model)
    return {*files.sha256[files.is_valid == "True"]}


def _read_files_csv(model: Model) -> "pd.DataFrame":
    import pandas as pd

    content = io.BytesIO(model.storage.read("files.csv"))
    return pd.read_csv(content, dtype=str, keep_default_na=False)


def _unchanged_paths(source: Storage, sha256s: dict[Any, str]) -> Iterator[str]:
    """Yield the paths of the files that still have their content, in the order of `source`."""
    entries = [entry for entry in source.walk() if encode_name(entry.name) in sha256s]
    for entry, data in zip(entries, source.read_many(entries), strict=True):
        path = encode_name(entry.name)
        if isinstance(data, bytes) and sha256_of(data) == sha256s[path]:
            yield path


def _predict(model: Model, source: Storage, paths: list[str]) -> "pd.DataFrame":
    """Return a model's label and probability by path, without images that cannot be decoded."""
    import pandas as pd

    names = [decode_name(path) for path in paths]
    answers = make_engine(model, EngineSettings()).predict_files(source, names) if names else {}
    rows = [
        (model.classes[int(probabilities.argmax())], float(probabilities.max()))
        for probabilities in answers.values()
    ]
    return pd.DataFrame(rows, [encode_name(name) for name in answers], ["label", "probability"])
