"""The draft of a training: its weights outlive the process, until they are published.

    from visionflows.training.checkpoint import draft_of, resume_or_fine_tune, checkpoint_key
    with draft_of("store", checkpoint_key(files, settings, "uppercase", 0.2)) as draft:
        record = resume_or_fine_tune(files, folder, draft, settings)

    <store>/.drafts/<key>/        weights.safetensors, training.json (last), what evaluate adds
    <store>/.drafts/<key>.lock    held by the one run that is at it

A run that was killed or failed after its fine-tuning leaves them, and the same command goes on
from there. Drafts of a store in a bucket lie in the cache on this machine.
"""

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from visionflows.datasets.file_table import fingerprint
from visionflows.errors import LockedError
from visionflows.hashing import sha256_of, sha256_of_file
from visionflows.storage import open_cache, open_storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.local_cache import fetch_local_file
from visionflows.system import library_versions
from visionflows.training.epochs import OnProgress
from visionflows.training.fine_tune import fine_tune
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("visionflows.draft")

KEPT = 7 * 24 * 3600.0  # seconds that a draft waits for the same command
_KEY = re.compile(r"[0-9a-f]{32}")
PUBLISHING = "publishing"  # in a draft: the version that it was to become, from its first file on
_LOCK = ".lock"  # held for a moment by whoever takes or removes a draft's own


class _Record(BaseModel):
    """training.json, as fine_tune leaves it."""

    model_config = ConfigDict(extra="forbid")

    settings: TrainSettings
    classes: list[str]
    normalise: dict[str, list[float]]
    base_lr: float
    freeze_epochs: int
    batch_size: int
    device: str
    mixed_precision: str
    history: list[dict[str, Any]]
    summary: str
    seconds: float
    weights_sha256: str


def checkpoint_key(
    files: "pd.DataFrame", settings: TrainSettings, labels: str, valid_pct: float
) -> str:
    """What tells a training from every other: 32 hex digits of all that makes it what it is.

    That is the images with labels and sides, the settings with their seed, the weights that they
    start from, and the versions of what computes. Raises PlaceError.
    """
    computing = {name: version for name, version in library_versions().items() if name != "prefect"}
    with contextlib.suppress(metadata.PackageNotFoundError):
        computing["timm"] = metadata.version("timm")
    made_of = [fingerprint(files), labels, valid_pct, settings.model_dump(), computing]
    made_of.append(_weights(settings.pretrained))
    return sha256_of(json.dumps(made_of, sort_keys=True).encode())[:32]


def _weights(pretrained: str) -> str:
    """The sha256 of a file to start from; empty where there is none."""
    if pretrained in ("default", "none"):
        return ""
    path = Path(fetch_local_file(pretrained))
    if not path.is_file():
        return ""  # make_learner says so
    with path.open("rb") as file:
        return sha256_of_file(file)


@contextlib.contextmanager
def open_checkpoint(store: str | Path, key: str) -> Iterator[Path]:
    """The folder of a training's draft, for one run alone; gone when the block ends well.

    Another run of the same training is waited for. A block that fails leaves the draft if its
    fine-tuning is done. Drafts of killed runs are removed when they hold no weights, or have
    waited for a week. Raises PlaceError.
    """
    own = open_storage(store).sub(".drafts")
    checkpoints = own if isinstance(own, LocalStorage) else open_cache().sub("drafts")
    checkpoint, published = checkpoints.path(key), False
    with _alone(checkpoints, key):
        try:
            yield checkpoint
            published = True
        finally:
            if published or not (checkpoint / "training.json").exists():
                with checkpoints.lock(_LOCK, wait=60):
                    _remove(checkpoints, key)


def resume_or_fine_tune(
    table: "pd.DataFrame",
    folder: str | Path,
    checkpoint: Path,
    settings: TrainSettings,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """The record of the training in a draft; it is made by fine_tune where there is none yet."""
    record = kept(checkpoint)
    if record is None:
        LocalStorage(checkpoint).remove("")  # whatever is there is not whole
        return fine_tune(table, folder, checkpoint, settings, on_progress)
    for name in set(os.listdir(checkpoint)) - {"weights.safetensors", "training.json", PUBLISHING}:
        LocalStorage(checkpoint).remove(name)  # of a judgement that may not have come to its end
    log.info(
        "going on from the fine-tuning of an earlier run, which was not published: %s", checkpoint
    )
    return record


def kept(checkpoint: Path) -> dict[str, Any] | None:
    """The record of the fine-tuning that a draft holds whole; None where it holds none."""
    try:
        record = _Record.model_validate_json((checkpoint / "training.json").read_bytes())
        with (checkpoint / "weights.safetensors").open("rb") as file:
            found = sha256_of_file(file)
    except (OSError, ValueError):
        return None
    return record.model_dump(exclude={"weights_sha256"}) if found == record.weights_sha256 else None


@contextlib.contextmanager
def _alone(checkpoints: LocalStorage, key: str) -> Iterator[None]:
    """Hold a draft's lock, however long another run of the same training has it."""
    with contextlib.ExitStack() as held:
        waiting = False
        while not _taken(held, checkpoints, key):
            if not waiting:
                log.info("the same training runs already: waiting for it to end")
            waiting = True
            time.sleep(0.5)
        yield


def _taken(held: contextlib.ExitStack, checkpoints: LocalStorage, key: str) -> bool:
    """Whether the draft's lock was free, and is ours now. Locks are removed as they are taken:
    under the one lock of all drafts, so that nobody waits for one that is no longer there."""
    with checkpoints.lock(_LOCK, wait=60):
        _clear(checkpoints)
        try:
            held.enter_context(checkpoints.lock(f"{key}.lock"))
        except LockedError:
            return False
    return True


def _clear(checkpoints: LocalStorage) -> None:
    """Remove what nobody is at, and nobody will go on from."""
    for key in {name.partition(".")[0] for name in checkpoints.names()}:
        trained = checkpoints.path(f"{key}/training.json")
        if not _KEY.fullmatch(key) or (
            trained.exists() and time.time() - trained.stat().st_mtime < KEPT
        ):
            continue
        with contextlib.suppress(LockedError), checkpoints.lock(f"{key}.lock"):
            _remove(checkpoints, key)


def _remove(checkpoints: LocalStorage, key: str) -> None:
    checkpoints.remove(key)
    checkpoints.remove(f"{key}.lock")
