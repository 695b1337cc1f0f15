"""Pooled features of images: the inputs of a network's head, as scoring computes them."""

import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from visionflows.errors import TrainError
from visionflows.inference import EngineSettings, make_engine
from visionflows.inference.openvino import unavailable_reason
from visionflows.models.artifact import ONNX, Model
from visionflows.models.schema import ModelInfo, NetworkInfo
from visionflows.storage.base import Storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name
from visionflows.training.pretrained_weights import normalisation, weights_bytes, weights_sha256
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    from fastai.learner import Learner

log = logging.getLogger("visionflows.features")

FEATURES = "features.npz"  # of a checkpoint: pooled features of the pretrained network
FROZEN = "frozen"  # of a checkpoint: the network that they are of


def iterate_features(
    model: Model, folder: str | Path, paths: Iterable[str], **settings: Any
) -> Iterator[np.ndarray | None]:
    """Yield the features of each image in order, float32 (features,), as scoring computes them.

    None if it cannot be decoded. `settings` are those of the engine.
    """
    engine = make_engine(model, EngineSettings(**{"precision": "float32"} | settings), False)
    engine.features = True
    rows = engine.predict_rows(LocalStorage(folder), [decode_name(path) for path in paths])
    return (row.features for row in rows)


def write_features(
    storage: Storage, images: pd.DataFrame, features: np.ndarray, settings: TrainSettings
) -> None:
    """Write the features (n, features) of images into a checkpoint, with the settings they need."""
    with storage.open_write(FEATURES) as file:
        sha256 = images.sha256.to_numpy("U64")
        np.savez(file, features=features, sha256=sha256, settings=_relevant(settings))


def read_features(
    storage: Storage, images: pd.DataFrame, settings: TrainSettings
) -> np.ndarray | None:
    """Return the features (n, features) of images that are in a checkpoint.

    None if it has none, or those of other images or settings.
    """
    if not storage.exists(FEATURES):
        return None
    with np.load(io.BytesIO(storage.read(FEATURES)), allow_pickle=False) as arrays:
        row_of = {sha256: at for at, sha256 in enumerate(arrays["sha256"].tolist())}
        is_complete = row_of.keys() >= {*images.sha256}
        if arrays["settings"] != _relevant(settings) or not is_complete:
            return None
        return np.asarray(arrays["features"][[row_of[sha256] for sha256 in images.sha256]])


def published_features(storage: Storage, images: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the features of images by path if those of the checkpoint's network are known.

    They are if it is a linear probe. Else empty.
    """
    if not is_probe(storage):
        return {}
    record = json.loads(storage.read("training.json"))
    features = read_features(storage, images, TrainSettings(**record["settings"]))
    return {} if features is None else dict(zip(images.path, features, strict=True))


def is_probe(storage: Storage) -> bool:
    """Return whether a checkpoint's network is the frozen one with the head of a linear probe."""
    if not storage.exists("training.json"):
        return False
    return not json.loads(storage.read("training.json"))["history"]


def _relevant(settings: TrainSettings) -> str:
    """The settings that features depend on, as text."""
    names = ("architecture", "pretrained", "image_size", "resize", "decode", "max_pixels")
    found = {name: getattr(settings, name) for name in names}
    found["color_profiles"] = settings.color_conversion
    return json.dumps([found, weights_sha256(settings.pretrained)])


def frozen_features(
    learn: "Learner",
    images: pd.DataFrame,
    folder: str | Path,
    storage: LocalStorage,
    on_image: Callable[[int], object],
) -> np.ndarray:
    """Return the features of images (rows of the file table), float32 (n, features).

    The network is written into `frozen/` of the checkpoint `storage`. 4 bytes a feature are in
    memory at once, so 5 GB of a million images with 1,280 features. `on_image` is called with the
    number of images that are done. OpenVINO computes them on a CPU if it can run the network, else
    torch. Raises TrainError if an image can no longer be read.
    """
    found, paths = np.empty((0, 0), np.float32), list(images.path)
    model = _as_model(learn, storage.sub(FROZEN))
    features = iterate_features(model, folder, paths, max_pixels=learn.settings.max_pixels)
    for done, (path, one) in enumerate(zip(paths, features, strict=True)):
        if one is None:
            raise TrainError(
                f"{path}: readable when training began, and no longer; do not change the "
                "dataset while it trains, and run again"
            )
        if not done:
            found = np.empty((len(paths), len(one)), np.float32)
        found[done] = one
        on_image(done + 1)
    return found


def _as_model(learn: "Learner", storage: LocalStorage) -> Model:
    """Return the learner's network as a model without evidence, written into a storage."""
    from visionflows.training.onnx_graph import NotExportable, onnx_bytes

    settings, network = learn.settings, learn.model.cpu().eval()
    mean, std = normalisation(settings.architecture)
    info = NetworkInfo.model_validate(
        {
            "schema_version": NetworkInfo.VERSION,
            "name": "frozen",
            "version": "0",
            **settings.network_fields,
            "classes": list(learn.dls.vocab),
            "multi_label": learn.multi_label,
            "normalise": {"mean": mean, "std": std},
        },
        strict=False,
    )
    storage.write("weights.safetensors", weights_bytes(network))
    if not unavailable_reason():
        try:
            storage.write(ONNX, onnx_bytes(network, info))
        except NotExportable as error:
            log.info("torch computes the features: %s", error)
    learn.model.to(learn.dls.device)
    return Model(storage, cast(ModelInfo, info))
