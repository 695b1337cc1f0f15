"""The model bundle: a folder that is all a model is, written once, checked whenever it is loaded.

    from tasks.bundle import find, load
    model = load(find("pets@production", store="store"))

    <store>/models/<name>/<version>/        model.json weights.safetensors files.csv selfcheck/ …
    <store>/models/<name>/aliases/<alias>   one line: a version

Nothing in a bundle is unpickled, and nothing in it is code. `model.json` is written last and
holds the sha256 of every other file it needs; the sha256 of `model.json` is the model's digest.
"""

import csv
import dataclasses
import datetime
import hashlib
import io
import json
import logging
import os
import platform
import re
import secrets
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.copies import forget, local_copy
from tasks.errors import ModelError, SettingsError
from tasks.storage import Place, place

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import nn

log = logging.getLogger("visionflows.bundle")

SCHEMA_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_REQUIRED = ("schema_version", "name", "version", "architecture", "classes", "image_size", "files")
_SCORING_FILES = ("weights.safetensors", "files.csv", "selfcheck/expected.csv")


@dataclasses.dataclass(frozen=True)
class Model:
    """A bundle that was found whole: what model.json says, its digest, and where it lies."""

    place: Place
    info: dict[str, Any]
    digest: str
    copy: Place | None = None

    @property
    def files(self) -> Place:
        """Where its files are read: on this machine, whatever its place."""
        return self.copy or self.place

    @property
    def classes(self) -> list[str]:
        return self.info["classes"]

    @property
    def name(self) -> str:
        """`pets@20261123T081500123Z-1a2b3c4d`."""
        return f"{self.info['name']}@{self.info['version']}"


def check_name(name: str) -> None:
    """Nothing, if `name` can name a model. Raises SettingsError."""
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r}: not a name for a model; use letters, digits, '.', '_' and '-', such as pets"
        )


def new_version() -> str:
    """A version that sorts by time, to the millisecond, and collides with none."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z-{secrets.token_hex(4)}"


def versions() -> dict[str, str]:
    """What a result depends on: Python and the libraries, by version."""
    names = ("visionflows", "torch", "torchvision", "fastai", "pillow", "numpy", "prefect")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def publish(draft: Path, store: str | Path, info: dict, table: "pd.DataFrame") -> str:
    """The place of a new bundle made of a draft; `latest` means it from now on.

    `draft` holds weights.safetensors, selfcheck/ and pictures/ (as fine_tune and evaluate leave
    them), and report.html; `info` is all of model.json that is known by now. The bundle can be
    found once its model.json, the last file written, is there.
    """
    check_name(info["name"])
    version = info["version"]
    target = place(store).sub(f"models/{info['name']}/{version}")
    source = place(draft)
    target.write("files.csv", _files_csv(table))
    for entry in source.walk():
        if entry.name.startswith(
            ("weights", "selfcheck/", "pictures/", "report.html", "export.pkl")
        ):
            target.write(entry.name, source.read(entry.name))
    info = {
        "schema_version": SCHEMA_VERSION,
        **info,
        "files": {entry.name: _sha256(target.read(entry.name)) for entry in target.walk()},
    }
    target.write("model.json", json.dumps(info, indent=2, ensure_ascii=False).encode())
    _advance(store, info["name"], version)
    log.info("published %s@%s", info["name"], version)
    return str(target)


def _advance(store: str | Path, name: str, version: str) -> None:
    """Let `latest` mean a version, unless somebody has published a newer one meanwhile."""
    place(store).sub(f"models/{name}").update(
        "aliases/latest",
        lambda means: None if means and means.decode() > version else f"{version}\n".encode(),
    )


def set_alias(store: str | Path, name: str, alias: str, version: str) -> None:
    """Let `name@alias` mean a version. Raises ModelError where there is no such version."""
    check_name(alias)
    models = place(store).sub(f"models/{name}")
    if not models.exists(f"{version}/model.json"):
        raise ModelError(
            f"{name}@{version}: no such version to promote; `visionflows models list` names them"
        )
    models.write(f"aliases/{alias}", f"{version}\n".encode())


def catalogue(store: str | Path) -> list[dict]:
    """A row a published version, newest first: name, version, aliases, metrics, created."""
    models, rows = place(store).sub("models"), []
    for name in models.names():
        aliases = {
            alias: models.read(f"{name}/aliases/{alias}").decode().strip()
            for alias in models.names(f"{name}/aliases")
        }
        for version in reversed(models.names(name)):
            if models.exists(f"{name}/{version}/model.json"):
                info = json.loads(models.read(f"{name}/{version}/model.json"))
                named = sorted(alias for alias, means in aliases.items() if means == version)
                rows.append({**info, "aliases": named})
    return rows


def find(model: str, store: str | Path) -> Place:
    """The place of the bundle that `pets`, `pets@production`, `pets@<version>` or a place means.

    Raises ModelError, naming what there is, where nothing of that name was published.
    """
    if "/" in model or model.startswith("."):
        return place(model)
    name, _, reference = model.partition("@")
    models = place(store).sub("models")
    if not models.names(name):
        known = ", ".join(models.names()) or "none yet; `visionflows train` makes one"
        raise ModelError(f"{name}: no such model in {store}; there is {known}")
    reference = reference or "latest"
    if models.exists(f"{name}/{reference}/model.json"):
        return models.sub(f"{name}/{reference}")
    if not models.exists(f"{name}/aliases/{reference}"):
        aliases = ", ".join(models.names(f"{name}/aliases"))
        raise ModelError(f"{model}: no such version or alias; {name} has the aliases {aliases}")
    return models.sub(f"{name}/{models.read(f'{name}/aliases/{reference}').decode().strip()}")


def load(where: Place) -> Model:
    """The model in a bundle, every file it needs found as it was published.

    Raises ModelError for one that is missing, incomplete, newer than this code, or changed.
    """
    if not where.exists("model.json"):
        raise ModelError(
            f"{where}: no model bundle there (no model.json); name one that was published"
        )
    text = where.read("model.json")
    try:
        info = json.loads(text)
        lacking = [key for key in _REQUIRED if key not in info]
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"{where}/model.json: not JSON ({error}); publish the model again"
        ) from error
    if lacking:
        raise ModelError(f"{where}/model.json: lacks {', '.join(lacking)}; publish the model again")
    if info["schema_version"] > SCHEMA_VERSION:
        raise ModelError(f"{where}: written by a newer visionflows; update this one to read it")
    return _checked(Model(where, info, _sha256(text)), text)


def _checked(model: Model, text: bytes) -> Model:
    """The model with its files on this machine, each as it was published."""
    needed = {
        name: sha256
        for name, sha256 in model.info["files"].items()
        if name in _SCORING_FILES or name.startswith("selfcheck/")
    }
    files = local_copy(model.place, needed, text, model.digest)
    try:
        for name, sha256 in needed.items():
            _check_file(files, name, sha256)
    except ModelError:
        if files is not model.place:
            forget(model.digest)  # the next run brings it anew
        raise
    return dataclasses.replace(model, copy=files)


def network_of(model: Model) -> "nn.Module":
    """The model's network on the CPU in float32, ready to score. Raises ModelError."""
    from safetensors.torch import load as tensors_of

    from tasks.network import build, check_architecture

    info = model.info
    check_architecture(info["architecture"])
    network = build(info["architecture"], len(model.classes), info["image_size"])
    try:
        network.load_state_dict(tensors_of(model.files.read("weights.safetensors")))
    except RuntimeError as error:
        raise ModelError(
            f"{model.place}: its weights do not fit {info['architecture']} as torchvision "
            f"{metadata.version('torchvision')} builds it; score with the versions in model.json"
        ) from error
    return network.eval()


def selfcheck_images(model: Model) -> tuple[list[bytes], "np.ndarray"]:
    """The images of the self-check (PNG bytes) and the probabilities they must give."""
    import numpy as np

    rows = list(csv.reader(io.StringIO(model.files.read("selfcheck/expected.csv").decode())))
    images = [model.files.read(f"selfcheck/{row[0]}") for row in rows[1:]]
    return images, np.array([[float(value) for value in row[1:]] for row in rows[1:]])


def _check_file(where: Place, name: str, sha256: str) -> None:
    if not where.exists(name):
        raise ModelError(f"{where}/{name}: missing from the bundle; publish the model again")
    if _sha256(where.read(name)) != sha256:
        raise ModelError(
            f"{where}/{name}: cut or changed since it was published (its sha256 differs); "
            "restore it or publish the model again"
        )


def _files_csv(table: "pd.DataFrame") -> bytes:
    usable = table[table.status == "ok"]
    columns = ["path", "label", "is_valid", "sha256"]
    return usable[columns].to_csv(index=False, lineterminator="\r\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def default_store() -> str:
    """Where runs keep what they make: VISIONFLOWS_STORE, else ./store."""
    return os.environ.get("VISIONFLOWS_STORE") or "store"
