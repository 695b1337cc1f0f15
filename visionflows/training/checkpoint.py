"""The checkpoint of a training: its weights outlive the process until the model is published.

    <store>/.checkpoints/<key>/        weights.safetensors, training.json, results of later steps,
                                       and before a snapshot of each epoch (epoch_snapshots)
    <store>/.checkpoints/<key>.lock    held by the one run that uses it

A run that ends without a model leaves its checkpoint, and the same command resumes from it.
Checkpoints of a store in a bucket are in the local cache, but snapshots are in the bucket.
"""

import contextlib
import datetime
import json
import logging
import math
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from visionflows.datasets.file_table import fingerprint
from visionflows.errors import LockedError, StorageError
from visionflows.hashing import sha256_of, sha256_of_file
from visionflows.storage import open_local_or_cache, open_storage
from visionflows.storage.base import Storage
from visionflows.storage.local import LocalStorage
from visionflows.system import library_versions
from visionflows.training.epoch_snapshots import FILES, SNAPSHOT
from visionflows.training.features import FEATURES, FROZEN
from visionflows.training.fine_tune import fine_tune
from visionflows.training.pretrained_weights import weights_sha256
from visionflows.training.schedule import OnProgress
from visionflows.training.settings import TrainSettings

log = logging.getLogger("visionflows.checkpoint")

MAX_AGE = 7 * 24 * 3600.0  # seconds that a checkpoint waits for the same command
PUBLISHING = "publishing"  # in a checkpoint: the version that its publishing began to write
_KEY = re.compile(r"[0-9a-f]{32}")


def checkpoint_key(
    files: pd.DataFrame, settings: TrainSettings, labels: str, valid_pct: float
) -> str:
    """Return 32 hex digits that identify a training.

    They depend on the images with their labels and split, the settings, the initial weights and
    the versions of the libraries. Raises StorageError.
    """
    versions = {name: version for name, version in library_versions().items() if name != "prefect"}
    with contextlib.suppress(metadata.PackageNotFoundError):
        versions["timm"] = metadata.version("timm")
    parts = [fingerprint(files), labels, valid_pct, settings.model_dump(), versions]
    parts.append(weights_sha256(settings.pretrained))
    return sha256_of(json.dumps(parts, sort_keys=True).encode())[:32]


@contextlib.contextmanager
def open_checkpoint(store: str | Path, key: str) -> Iterator[Path]:
    """Lock a training's checkpoint and yield its folder; remove it when the block succeeds.

    Waits for another run of the same training on this machine; two machines may do the same work.
    A block that fails keeps the checkpoint if features, an epoch or the fine-tuning are done.
    Abandoned checkpoints are removed if they hold none of these or are a week old. Raises
    StorageError.
    """
    checkpoints = open_local_or_cache(store).sub(".checkpoints")
    checkpoint = checkpoints.path(key)
    snapshots = open_storage(snapshots_location(store, checkpoint))
    _remove_abandoned(store, key)
    snapshots.clear_temporary([""], lambda name: True)
    with _wait_for_lock(checkpoints, key):
        published = False
        try:
            yield checkpoint
            published = True
        finally:
            if published or not _last_written(checkpoints, key):
                checkpoints.remove(key)
            if published:
                with _as_warning():
                    snapshots.remove("")


def resume_or_fine_tune(
    table: pd.DataFrame,
    folder: str | Path,
    checkpoint: Path,
    settings: TrainSettings,
    on_progress: OnProgress | None = None,
    store: str | Path = "",
) -> dict[str, Any]:
    """Return the training record of a complete checkpoint; without one, fine-tune.

    Snapshots are in `store`, by default in the checkpoint.
    """
    record, storage = read_record(checkpoint), LocalStorage(checkpoint)
    kept = {"weights.safetensors", "training.json", PUBLISHING} if record else set()
    for name in storage.names():  # results of steps that may be incomplete
        if name not in kept | {FEATURES, FROZEN} and not name.endswith(FILES):
            storage.remove(name)
    if record is None:
        snapshots = snapshots_location(store, checkpoint) if store else checkpoint
        return fine_tune(table, folder, checkpoint, settings, on_progress, snapshots)
    log.info("resuming from the checkpoint of an earlier run: %s", checkpoint)
    return record


def snapshots_location(store: str | Path, checkpoint: Path) -> str:
    """The location in the store of a checkpoint's snapshots."""
    return str(open_storage(store).sub(f".checkpoints/{checkpoint.name}"))


def read_record(checkpoint: Path) -> dict[str, Any] | None:
    """Return the training record of a checkpoint; None if it or its weights are incomplete."""
    try:
        record: dict[str, Any] = json.loads((checkpoint / "training.json").read_bytes())
        with (checkpoint / "weights.safetensors").open("rb") as file:
            is_complete = sha256_of_file(file) == record.pop("weights_sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing or damaged
        return None
    return record if is_complete else None


@contextlib.contextmanager
def _wait_for_lock(checkpoints: LocalStorage, key: str) -> Iterator[None]:
    """Hold a checkpoint's lock, after waiting for any other run of the same training."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(checkpoints.lock(f"{key}.lock"))
        except LockedError:
            log.info("the same training is already running: waiting for it to end")
            stack.enter_context(checkpoints.lock(f"{key}.lock", wait=math.inf))
        yield


def _remove_abandoned(store: str | Path, key: str) -> None:
    """Remove checkpoints that nobody resumed, but not the one of this key."""
    local, own = open_local_or_cache(store).sub(".checkpoints"), open_storage(store)
    keys = {name.partition(".")[0] for name in local.names()} - {key}
    for abandoned in filter(_KEY.fullmatch, keys):
        if _is_abandoned(local, abandoned):
            with contextlib.suppress(LockedError), local.lock(f"{abandoned}.lock"):
                local.remove(abandoned)
    if not own.is_local:
        with _as_warning():
            snapshots = own.sub(".checkpoints")
            for abandoned in filter(_KEY.fullmatch, {*snapshots.names()} - {key}):
                if _is_abandoned(snapshots, abandoned):
                    snapshots.remove(abandoned)


@contextlib.contextmanager
def _as_warning() -> Iterator[None]:
    """Log a StorageError: what remains in a bucket costs a little money, but no model."""
    try:
        yield
    except StorageError as error:
        log.warning("snapshots of a training remain: %s", error)


def _is_abandoned(checkpoints: Storage, key: str) -> bool:
    now = datetime.datetime.now(datetime.UTC)
    last = _last_written(checkpoints, key)
    return last is None or (now - last).total_seconds() > MAX_AGE


def _last_written(checkpoints: Storage, key: str) -> datetime.datetime | None:
    """When a checkpoint's record, features or snapshot was last written, if it has any."""
    written = checkpoints.last_modified(key)
    kept = ("training.json", FEATURES, SNAPSHOT)
    return max((when for name, when in written.items() if name.endswith(kept)), default=None)
