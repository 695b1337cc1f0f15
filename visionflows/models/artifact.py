"""Model artifacts: a folder with all files of a model, written once and verified at every load.

    from visionflows.models.artifact import load_model
    model = load_model(find_model("pets@production", store="store"))

    <store>/models/<name>/<version>/        model.json weights.safetensors files.csv selfcheck/ …

Nothing in an artifact is unpickled or executed. `model.json` is written last and holds the SHA-256
of every other file. The SHA-256 of `model.json` is the model's digest.
"""

import csv
import dataclasses
import io
import logging
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from visionflows.errors import ModelError, one_line
from visionflows.hashing import sha256_of
from visionflows.images.image_status import BadImage
from visionflows.images.open import open_image
from visionflows.models.schema import ModelInfo
from visionflows.storage.base import Storage
from visionflows.storage.local_cache import copy_to_cache, remove_copy
from visionflows.versioned_json import NewerVersionError, SchemaError

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("visionflows.models")

ONNX = "model.onnx"  # for OpenVINO and onnxruntime: visionflows.training.evidence.onnx_export
INT8 = ("model.int8.xml", "model.int8.bin")  # the network in int8, in OpenVINO's format
VALIDATION = "validation.csv"  # the prediction of each validation image
OUTLIERS = "outliers.safetensors"  # the outlier detector: visionflows.evaluation.outliers
_REQUIRED = ("weights.safetensors", "files.csv", "selfcheck/expected.csv", VALIDATION)


@dataclasses.dataclass(frozen=True)
class Model:
    """A verified model artifact: the content of model.json, its digest, and its storage.

    A checkpoint is a model without digest.
    """

    storage: Storage
    info: ModelInfo
    digest: str = ""
    copy: Storage | None = None

    @property
    def files(self) -> Storage:
        """The storage its files are read from: the local copy if it has one."""
        return self.copy or self.storage

    @property
    def classes(self) -> list[str]:
        return self.info.classes

    def has(self, name: str) -> bool:
        """Whether it has a file; a checkpoint (without digest) has the files of its folder."""
        return name in self.info.files if self.digest else self.files.exists(name)

    @property
    def name(self) -> str:
        """`pets@20261123T081500123Z-1a2b3c4d`."""
        return f"{self.info.name}@{self.info.version}"


def load_model(location: Storage) -> Model:
    """The model of an artifact, after every file it needs is verified.

    Raises ModelError if it is missing, incomplete, changed, or newer than this code.
    """
    if not location.exists("model.json"):
        raise ModelError(f"{location}: not a model artifact (no model.json); name a published one")
    text = _read(location, "model.json")
    return _checked(Model(location, read_info(location, text), sha256_of(text)), text)


def read_info(location: Storage, text: bytes | None = None) -> ModelInfo:
    """The model.json of an artifact (`text`, if read already). Raises ModelError if unusable."""
    try:
        return ModelInfo.read(_read(location, "model.json") if text is None else text)
    except NewerVersionError as error:
        raise ModelError(f"{location}: {error}") from error
    except SchemaError as error:
        raise ModelError(f"{location}/model.json: {error}; publish the model again") from error


def _read(location: Storage, name: str) -> bytes:
    try:
        return location.read(name)
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        why = "missing" if is_missing else f"cannot be read ({error.strerror or error})"
        raise ModelError(f"{location}/{name}: {why}; publish the model again") from error


def _checked(model: Model, text: bytes) -> Model:
    """The model with verified files on this machine."""
    for name in _REQUIRED:
        if name not in model.info.files:
            raise ModelError(f"{model.storage}/model.json: lacks {name}; publish the model again")
    needed = {
        name: sha256
        for name, sha256 in model.info.files.items()
        if name in (*_REQUIRED, OUTLIERS, ONNX, *INT8) or name.startswith("selfcheck/")
    }
    files = copy_to_cache(model.storage, needed, text, model.digest)
    try:
        for name, sha256 in needed.items():
            if sha256_of(_read(files, name)) != sha256:
                raise ModelError(
                    f"{files}/{name}: changed since it was published (its SHA-256 differs); "
                    "restore it or publish the model again"
                )
    except ModelError:
        if files is not model.storage:
            remove_copy(model.digest)  # the next run downloads it again
        raise
    return dataclasses.replace(model, copy=files)


def read_files_csv(storage: Storage) -> list[dict[str, str]]:
    """The rows of an artifact's files.csv that are trained or validated on: no test images."""
    text = storage.read("files.csv").decode()
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [row for row in rows if row["status"] == "ok"]


def load_network(model: Model) -> "nn.Module":
    """The model's network on the CPU in float32, ready to score. Raises ModelError."""
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    from visionflows.models.network import build, check_architecture

    info = model.info
    check_architecture(info.architecture)
    try:
        network = build(info.architecture, len(model.classes), info.image_size, info.head)
        network.load_state_dict(load_tensors(model.files.read("weights.safetensors")))
    # torchvision and timm raise these for a network of another shape or an impossible size.
    except (RuntimeError, ValueError, AssertionError, SafetensorError) as error:
        raise ModelError(
            f"{model.storage}: its weights do not fit {info.architecture} as torchvision "
            f"{metadata.version('torchvision')} builds it; score with the versions in model.json"
        ) from error
    return network.eval()


def read_selfcheck(model: Model) -> tuple[list[Image.Image], np.ndarray]:
    """The images of the self-check and their expected probabilities.

    Raises ModelError if expected.csv, or an image it names, cannot be used.
    """
    data = model.files.read("selfcheck/expected.csv")
    try:
        _, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
        names = [f"selfcheck/{row[0]}" for row in rows]
        expected = np.array([[float(value) for value in row[1:]] for row in rows])
    except (ValueError, IndexError, csv.Error) as error:
        raise _selfcheck_error(model, str(error)) from error
    if expected.shape != (len(rows), len(model.classes)) or not rows:
        raise _selfcheck_error(model, "needs a row for each image with a probability of each class")
    # A checkpoint (without digest) lists its files when it is published.
    if model.digest and not model.info.files.keys() >= set(names):
        raise _selfcheck_error(model, "names an image that model.json lacks")
    return [_open_image(model, name) for name in names], expected


def _open_image(model: Model, name: str) -> Image.Image:
    try:
        return open_image(model.files.read(name))
    except BadImage as bad:
        raise _selfcheck_error(model, f"{name}: {bad}") from bad


def _selfcheck_error(model: Model, why: str) -> ModelError:
    return ModelError(f"{model.storage}/selfcheck: {one_line(why)}; publish the model again")
