"""The model bundle: a folder that is all a model is, written once, checked whenever it is loaded.

    from visionflows.models.registry import find
    from visionflows.models.artifact import load
    model = load(find("pets@production", store="store"))

    <store>/models/<name>/<version>/        model.json weights.safetensors files.csv selfcheck/ …
    <store>/models/<name>/aliases/<alias>   one line: a version

Nothing in a bundle is unpickled, and nothing in it is code. `model.json` is written last and
holds the sha256 of every other file it needs; the sha256 of `model.json` is the model's digest.
"""

import csv
import dataclasses
import io
import logging
from importlib import metadata
from typing import TYPE_CHECKING

from visionflows.errors import ModelError, one_line
from visionflows.hashing import sha256_of
from visionflows.images.image_status import BadImage
from visionflows.images.open import open_image
from visionflows.models.schema import ModelInfo
from visionflows.storage.base import Storage
from visionflows.storage.local_cache import copy_to_cache, remove_copy
from visionflows.versioned_json import NewerVersionError, SchemaError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

log = logging.getLogger("visionflows.bundle")

ONNX = "model.onnx"  # the network for who has no torch: visionflows.training.evidence.onnx_export
INT8 = ("model.int8.xml", "model.int8.bin")  # the same in int8, as OpenVINO keeps it
VALIDATION = "validation.csv"  # what it says of each validation image
OUTLIERS = (
    "outliers.safetensors"  # what tells pictures of another kind: visionflows.evaluation.outliers
)
_SCORING_FILES = ("weights.safetensors", "files.csv", "selfcheck/expected.csv")


@dataclasses.dataclass(frozen=True)
class Model:
    """A bundle that was found whole: what model.json says, its digest, and where it lies."""

    storage: Storage
    info: ModelInfo
    digest: str
    copy: Storage | None = None

    @property
    def files(self) -> Storage:
        """Where its files are read: on this machine, whatever its place."""
        return self.copy or self.storage

    @property
    def classes(self) -> list[str]:
        return self.info.classes

    def has(self, name: str) -> bool:
        """Whether a file is part of it; a draft (no digest) has what lies there."""
        return name in self.info.files if self.digest else self.files.exists(name)

    @property
    def name(self) -> str:
        """`pets@20261123T081500123Z-1a2b3c4d`."""
        return f"{self.info.name}@{self.info.version}"


def load(where: Storage) -> Model:
    """The model in a bundle, every file it needs found as it was published.

    Raises ModelError for one that is missing, incomplete, newer than this code, or changed.
    """
    if not where.exists("model.json"):
        raise ModelError(
            f"{where}: no model bundle there (no model.json); name one that was published"
        )
    text = model_json(where)
    return _checked(Model(where, read_info(where, text), sha256_of(text)), text)


def model_json(where: Storage) -> bytes:
    """The model.json of a bundle, as it lies there. Raises ModelError where it cannot be read."""
    try:
        return where.read("model.json")
    except OSError as error:
        why = error.strerror or str(error)
        raise ModelError(
            f"{where}/model.json: cannot be read ({why}); publish the model again"
        ) from error


def read_info(where: Storage, text: bytes) -> ModelInfo:
    """What the model.json of a bundle says. Raises ModelError where it is not so."""
    try:
        return ModelInfo.read(text)
    except NewerVersionError as error:
        raise ModelError(f"{where}: {error}") from error
    except SchemaError as error:
        raise ModelError(f"{where}/model.json: {error}; publish the model again") from error


def _checked(model: Model, text: bytes) -> Model:
    """The model with its files on this machine, each as it was published."""
    for name in _SCORING_FILES:
        if name not in model.info.files:
            raise ModelError(
                f"{model.storage}/model.json: names no {name}; publish the model again"
            )
    needed = {
        name: sha256
        for name, sha256 in model.info.files.items()
        if name in (*_SCORING_FILES, VALIDATION, OUTLIERS, ONNX, *INT8)
        or name.startswith("selfcheck/")
    }
    files = copy_to_cache(model.storage, needed, text, model.digest)
    try:
        for name, sha256 in needed.items():
            _check_file(files, name, sha256)
    except ModelError:
        if files is not model.storage:
            remove_copy(model.digest)  # the next run brings it anew
        raise
    return dataclasses.replace(model, copy=files)


def network_of(model: Model) -> "nn.Module":
    """The model's network on the CPU in float32, ready to score. Raises ModelError."""
    from safetensors import SafetensorError
    from safetensors.torch import load as tensors_of

    from visionflows.models.network import build, check_architecture

    info = model.info
    check_architecture(info.architecture)
    try:
        network = build(info.architecture, len(model.classes), info.image_size)
        network.load_state_dict(tensors_of(model.files.read("weights.safetensors")))
    # What a network of another shape, or a size it cannot have, makes torchvision and timm raise.
    except (RuntimeError, ValueError, AssertionError, SafetensorError) as error:
        raise ModelError(
            f"{model.storage}: its weights do not fit {info.architecture} as torchvision "
            f"{metadata.version('torchvision')} builds it; score with the versions in model.json"
        ) from error
    return network.eval()


def selfcheck_images(model: Model) -> tuple[list[bytes], "np.ndarray"]:
    """The images of the self-check (PNG bytes) and the probabilities they must give.

    Raises ModelError where expected.csv, or an image it names, is not what it should be.
    """
    import numpy as np

    data = model.files.read("selfcheck/expected.csv")
    try:
        _, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
        names = [f"selfcheck/{row[0]}" for row in rows]
        expected = np.array([[float(value) for value in row[1:]] for row in rows])
    except (ValueError, IndexError, csv.Error) as error:
        raise _no_selfcheck(model, str(error)) from error
    if expected.shape != (len(rows), len(model.classes)) or not rows:
        raise _no_selfcheck(model, "not an image a row, with a probability of each class")
    # A draft (no digest) is ours, of this very run: its files are told when it is published.
    if model.digest and not model.info.files.keys() >= set(names):
        raise _no_selfcheck(model, "names an image that model.json does not")
    return [_opened(model, name) for name in names], expected


def _opened(model: Model, name: str) -> bytes:
    data = model.files.read(name)
    try:
        open_image(data)
    except BadImage as bad:
        raise _no_selfcheck(model, f"{name}: {bad}") from bad
    return data


def _no_selfcheck(model: Model, why: str) -> ModelError:
    return ModelError(f"{model.storage}/selfcheck: {one_line(why)}; publish the model again")


def _check_file(where: Storage, name: str, sha256: str) -> None:
    try:
        data = where.read(name)
    except FileNotFoundError as error:
        raise ModelError(
            f"{where}/{name}: missing from the bundle; publish the model again"
        ) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise ModelError(
            f"{where}/{name}: cannot be read ({why}); publish the model again"
        ) from error
    if sha256_of(data) != sha256:
        raise ModelError(
            f"{where}/{name}: cut or changed since it was published (its sha256 differs); "
            "restore it or publish the model again"
        )
