"""The models in a store: published once, found by name, meant by aliases.

from visionflows.models.registry import find, publish
find("pets@production", store="store")           # the place of a bundle

<store>/models/<name>/<version>/        a bundle, as visionflows.models.artifact has it
<store>/models/<name>/aliases/<alias>   one line: a version
<store>/models/<name>/promotions/       who let an alias mean it: visionflows.models.promotion_history
"""

import csv
import datetime
import io
import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from visionflows.errors import ModelError, SettingsError, one_line
from visionflows.hashing import sha256_of
from visionflows.models import promotion_history
from visionflows.models.artifact import load, model_json, read_info
from visionflows.models.references import is_name, version_in
from visionflows.models.schema import ModelInfo
from visionflows.storage import open_storage
from visionflows.storage.base import Storage

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("visionflows.models")

_OF_CHECKPOINTS = (  # what of a draft is published
    *("weights", "model.onnx", "model.int8.", "selfcheck/", "pictures/", "report.html"),
    *("export.pkl", "confusion.csv", "validation.csv", "outliers.safetensors", "label_issues.csv"),
)


def check_name(name: str) -> None:
    """Nothing, if `name` can name a model. Raises SettingsError."""
    if not is_name(name):
        raise SettingsError(
            f"{name!r}: not a name for a model; use letters, digits, '.', '_' and '-', such as pets"
        )


def new_version() -> str:
    """A version that sorts by time, to the millisecond, and collides with none."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z-{secrets.token_hex(4)}"


def publish(checkpoint: Path, store: str | Path, info: ModelInfo, table: "pd.DataFrame") -> str:
    """The place of a new bundle made of a draft; `latest` means it from now on.

    `draft` holds weights.safetensors, selfcheck/ and pictures/ (as fine_tune and evaluate leave
    them), and report.html; `info` is all of model.json that is known by now, and its confusion
    matrix becomes a file of its own. The bundle can be found once its model.json, the last file
    written, is there.
    """
    target = open_storage(store).sub(f"models/{info.name}/{info.version}")
    source = open_storage(checkpoint)
    target.write("files.csv", _files_csv(table))
    if info.metrics.confusion:
        target.write("confusion.csv", _confusion_csv(info))
        info = info.without_confusion()
    for entry in source.walk():
        if entry.name.startswith(_OF_CHECKPOINTS):
            target.write(entry.name, source.read(entry.name))
    files = {entry.name: sha256_of(target.read(entry.name)) for entry in target.walk()}
    target.write("model.json", info.model_copy(update={"files": files}).text())
    _advance(store, info.name, info.version)
    log.info("published %s@%s", info.name, info.version)
    return str(target)


def _advance(store: str | Path, name: str, version: str) -> None:
    """Let `latest` mean a version, unless somebody has published a newer one meanwhile."""
    open_storage(store).sub(f"models/{name}").update(
        "aliases/latest",
        lambda means: None if version_in(means) > version else f"{version}\n".encode(),
    )


def set_alias(
    store: str | Path, name: str, alias: str, version: str, flow_run: str = "", why: str = ""
) -> None:
    """Let `name@alias` mean a version; the history keeps who did so, or which flow run, and why.

    Raises ModelError where there is no such version.
    """
    check_name(alias)
    models = open_storage(store).sub(f"models/{name}")
    if not (is_name(version) and models.exists(f"{version}/model.json")):
        raise ModelError(
            f"{name}@{version}: no such version to promote; `visionflows models list` names them"
        )
    promotion_history.promote(models, promotion_history.made(name, alias, version, flow_run, why))


def promote(
    model: str, store: str | Path, alias: str = "production", flow_run: str = "", why: str = ""
) -> tuple[str, str]:
    """The name and version that `<name>@<alias>` means from now on; the bundle is checked first.

    Raises ModelError where there is no such model, or its bundle is not whole.
    """
    found = load(find(model, store))
    name, version = found.info.name, found.info.version
    set_alias(store, name, alias, version, flow_run, why)
    log.info("%s@%s is %s@%s now", name, alias, name, version)
    return name, version


def aliases_of(name: str, store: str | Path) -> dict[str, str]:
    """The version that each alias of a model means, empty where its file holds none."""
    models = open_storage(store).sub(f"models/{name}")
    return {alias: version_in(models.read(f"aliases/{alias}")) for alias in models.names("aliases")}


def meant(name: str, alias: str, store: str | Path) -> str:
    """The version that `name@alias` means; empty where it means none."""
    models = open_storage(store).sub(f"models/{name}")
    file = f"aliases/{alias}"
    return version_in(models.read(file)) if models.exists(file) else ""


class Listed(NamedTuple):
    """A published version, and the aliases that mean it."""

    info: ModelInfo
    aliases: list[str]


def catalogue(store: str | Path) -> list[Listed]:
    """Every published version, by name, newest first; one that cannot be read is only logged."""
    models, rows = open_storage(store).sub("models"), []
    for name in filter(is_name, models.names()):
        aliases = aliases_of(name, store)
        for version in filter(is_name, reversed(models.names(name))):
            named = sorted(alias for alias, means in aliases.items() if means == version)
            if models.exists(f"{name}/{version}/model.json"):
                rows += _listed(models.sub(f"{name}/{version}"), named)
    return rows


def _listed(where: Storage, aliases: list[str]) -> list[Listed]:
    try:
        return [Listed(read_info(where, model_json(where)), aliases)]
    except ModelError as error:
        log.warning("%s", error)
        return []


def find(model: str, store: str | Path) -> Storage:
    """The place of the bundle that `pets`, `pets@production`, `pets@<version>` or a place means.

    Raises ModelError, naming what there is, where nothing of that name was published.
    """
    if "/" in model or model.startswith("."):
        return open_storage(model)
    name, _, reference = model.partition("@")
    reference = reference or "latest"
    if not (is_name(name) and is_name(reference)):
        raise ModelError(
            f"{one_line(model)}: names no model; write pets, pets@production, pets@<version>, or "
            "the place of a bundle"
        )
    models = open_storage(store).sub("models")
    if not models.names(name):
        known = ", ".join(models.names()) or "none yet; `visionflows train` makes one"
        raise ModelError(f"{name}: no such model in {store}; there is {known}")
    if models.exists(f"{name}/{reference}/model.json"):
        return models.sub(f"{name}/{reference}")
    if not models.exists(f"{name}/aliases/{reference}"):
        aliases = ", ".join(models.names(f"{name}/aliases"))
        raise ModelError(f"{model}: no such version or alias; {name} has the aliases {aliases}")
    version = version_in(models.read(f"{name}/aliases/{reference}"))
    if not version:
        raise ModelError(
            f"{models}/{name}/aliases/{reference}: holds no version; promote one to it again"
        )
    return models.sub(f"{name}/{version}")


def _files_csv(table: "pd.DataFrame") -> bytes:
    usable = table[table.status == "ok"]
    columns = ["path", "label", "is_valid", "sha256", "signature"]
    return usable[columns].to_csv(index=False, lineterminator="\r\n").encode()


def _confusion_csv(info: ModelInfo) -> bytes:
    """Which class was taken for which, and how often: a row for each that happened."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["actual", "predicted", "images"])
    for actual, counts in zip(info.classes, info.metrics.confusion, strict=True):
        for predicted, count in zip(info.classes, counts, strict=True):
            if count:
                writer.writerow([actual, predicted, count])
    return text.getvalue().encode()


def default_store() -> str:
    """Where runs keep what they make: VISIONFLOWS_STORE, else ./store."""
    return os.environ.get("VISIONFLOWS_STORE") or "store"
