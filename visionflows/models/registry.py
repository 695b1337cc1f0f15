"""The model registry of a store: versions are published once and found by name or alias.

from visionflows.models.registry import find_model, publish
find_model("pets@production", store="store")     # the storage of a model artifact

<store>/models/<name>/<version>/        a model artifact: visionflows.models.artifact
<store>/models/<name>/aliases/<alias>   one line: a version
<store>/models/<name>/promotions/       see visionflows.models.promotion_history
"""

import datetime
import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from visionflows.errors import ModelError, SettingsError, StorageError, one_line
from visionflows.hashing import sha256_of
from visionflows.models.artifact import load_model, read_info
from visionflows.models.promotion_history import current_user, record_promotion
from visionflows.models.schema import ModelInfo, is_name, parse_alias
from visionflows.storage import open_storage
from visionflows.storage.base import Storage

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("visionflows.models")

FILES = ["path", "label", "group", "is_valid", "sha256", "signature", "status"]  # of files.csv
_PUBLISHED = (  # files of a checkpoint that are published, by the start of their names
    *("weights", "model.onnx", "model.int8.", "selfcheck/", "pictures/", "report.html"),
    *("export.pkl", "confusion.csv", "validation.csv", "outliers.safetensors", "label_issues.csv"),
)


def check_name(name: str) -> None:
    """Do nothing if `name` can name a model. Raises SettingsError."""
    if not is_name(name):
        raise SettingsError(
            f"{name!r}: cannot name a model; use letters, digits, '.', '_' and '-', such as pets"
        )


def new_version() -> str:
    """A unique version that sorts by time, to the millisecond."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z-{secrets.token_hex(4)}"


def publish(checkpoint: Path, store: str | Path, info: ModelInfo, table: "pd.DataFrame") -> str:
    """The location of a new model artifact made of a checkpoint; `latest` is moved to it.

    `info` is model.json without the digests of its files, and `table` has the files of the
    training. model.json is written last: until then the version cannot be found.
    """
    target = open_storage(store).sub(f"models/{info.name}/{info.version}")
    source = open_storage(checkpoint)
    files = table.loc[table.status.isin(["ok", "test"]), FILES]
    target.write("files.csv", files.to_csv(index=False, lineterminator="\r\n").encode())
    for entry in source.walk():
        if entry.name.startswith(_PUBLISHED):
            target.write(entry.name, source.read(entry.name))
    digests = {entry.name: sha256_of(target.read(entry.name)) for entry in target.walk()}
    target.write("model.json", info.model_copy(update={"files": digests}).text())
    _move_latest(store, info.name, info.version)
    log.info("published %s@%s", info.name, info.version)
    return str(target)


def _move_latest(store: str | Path, name: str, version: str) -> None:
    """Move `latest` to a version, unless a newer one was published meanwhile."""
    open_storage(store).sub(f"models/{name}").update(
        "aliases/latest",
        lambda content: None if parse_alias(content) > version else f"{version}\n".encode(),
    )


def set_alias(
    store: str | Path, name: str, alias: str, version: str, flow_run: str = "", why: str = ""
) -> None:
    """Move `name@alias` to a version; the history records who did it, or which flow run, and why.

    Raises ModelError if there is no such version.
    """
    check_name(alias)
    models = open_storage(store).sub(f"models/{name}")
    if not (is_name(version) and models.exists(f"{version}/model.json")):
        raise ModelError(
            f"{name}@{version}: no such version to promote; `visionflows models list` names them"
        )
    fields = {"flow_run": flow_run} if flow_run else {"by": current_user()}
    fields |= {"why": why} if why else {}
    record_promotion(models, name=name, alias=alias, version=version, **fields)


def promote(
    model: str, store: str | Path, alias: str = "production", flow_run: str = "", why: str = ""
) -> tuple[str, str]:
    """The name and version that `<name>@<alias>` is now; the artifact is checked first.

    Raises ModelError if there is no such model, or its artifact is incomplete.
    """
    found = load_model(find_model(model, store))
    name, version = found.info.name, found.info.version
    if not why:  # else a test on the same images has decided
        _warn_if_worse(found.info, read_aliases(name, store).get(alias, ""), store)
    set_alias(store, name, alias, version, flow_run, why)
    log.info("%s@%s is now %s@%s", name, alias, name, version)
    return name, version


def _warn_if_worse(info: ModelInfo, before: str, store: str | Path) -> None:
    """Log both error rates if that of a model is higher than that of the version before it."""
    if not before:
        return
    try:
        other = read_info(open_storage(store).sub(f"models/{info.name}/{before}"))
    except (ModelError, StorageError) as error:
        log.warning("%s@%s: cannot be compared with it: %s", info.name, before, error)
        return
    if info.metrics.error_rate > other.metrics.error_rate:
        new, old = (
            f"{100 * each.metrics.error_rate:.1f} % of {each.dataset.valid} validation images"
            for each in (info, other)
        )
        log.warning(
            "%s@%s makes more errors than %s, the version before it: %s against %s, each its own; "
            "to compare them on the same images: visionflows models compare %s@%s %s@%s",
            *(info.name, info.version, before, new, old),
            *(info.name, info.version, info.name, before),
        )


def read_aliases(name: str, store: str | Path) -> dict[str, str]:
    """The version of each alias of a model; empty for an alias file without one."""
    models = open_storage(store).sub(f"models/{name}")
    return {
        alias: parse_alias(models.read(f"aliases/{alias}")) for alias in models.names("aliases")
    }


class ListedModel(NamedTuple):
    """A published version and its aliases."""

    info: ModelInfo
    aliases: list[str]


def production_info(name: str, store: str | Path) -> ModelInfo | None:
    """The model.json of a model's production version; None if it has none."""
    if "production" not in read_aliases(name, store):
        return None
    return read_info(find_model(f"{name}@production", store))


def list_models(store: str | Path) -> list[ListedModel]:
    """Every published version, by name, newest first; an unreadable one is only logged."""
    models, found = open_storage(store).sub("models"), []
    for name in filter(is_name, models.names()):
        aliases = read_aliases(name, store)
        for version in filter(is_name, reversed(models.names(name))):
            location = models.sub(f"{name}/{version}")
            if not location.exists("model.json"):
                continue
            named = sorted(alias for alias, target in aliases.items() if target == version)
            try:
                found.append(ListedModel(read_info(location), named))
            except ModelError as error:
                log.warning("%s", error)
    return found


def find_model(model: str, store: str | Path) -> Storage:
    """The storage of `pets`, `pets@production`, `pets@<version>`, or of an artifact's location.

    Raises ModelError, with the names there are, if nothing of that name was published.
    """
    if "/" in model or model.startswith("."):
        return open_storage(model)
    name, _, reference = model.partition("@")
    reference = reference or "latest"
    if not (is_name(name) and is_name(reference)):
        raise ModelError(
            f"{one_line(model)}: not a model; use pets, pets@production, pets@<version>, or the "
            "location of a model artifact"
        )
    models = open_storage(store).sub("models")
    if not models.names(name):
        known = ", ".join(models.names()) or "none yet; `visionflows train` makes one"
        raise ModelError(f"{name}: no such model in {store}; there is {known}")
    if models.exists(f"{name}/{reference}/model.json"):
        return models.sub(f"{name}/{reference}")
    aliases = read_aliases(name, store)
    if reference not in aliases:
        known = ", ".join(aliases)
        raise ModelError(f"{model}: no such version or alias; {name} has the aliases {known}")
    if not (version := aliases[reference]):
        raise ModelError(
            f"{models}/{name}/aliases/{reference}: holds no version; promote one to it again"
        )
    return models.sub(f"{name}/{version}")


def default_store() -> str:
    """The default store: VISIONFLOWS_STORE, else ./store."""
    return os.environ.get("VISIONFLOWS_STORE") or "store"
