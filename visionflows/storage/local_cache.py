"""Copies of remote models and files on this machine.

    <cache>/models/<digest>/        the files that scoring needs; model.json is written last

Models are stored by digest, so that a copy is never outdated.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterable

from visionflows.errors import StorageError
from visionflows.hashing import sha256_of
from visionflows.storage import open_cache, open_storage, split_location
from visionflows.storage.base import Storage, invalid_name_reason

WAIT = 3600.0  # seconds to wait for another process that copies the same model

log = logging.getLogger("visionflows.local_cache")


def copy_to_cache(model: Storage, names: Iterable[str], text: bytes, digest: str) -> Storage:
    """A model's files on this machine; `model` itself if it is local.

    `text` is its model.json, of which `digest` is the SHA-256. A concurrent copy is waited for; the
    incomplete copy of a killed process is discarded.
    """
    if model.is_local:
        return model
    models, copying = open_cache().sub("models"), f".copying-{digest}"
    with models.lock(f"{copying}.lock", WAIT):
        if models.exists(f"{digest}/model.json"):
            return models.sub(digest)
        models.remove(copying)
        temporary = models.sub(copying)
        try:
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # reported when files are verified
                    temporary.write(name, model.read(name))
            temporary.write("model.json", text)
            models.rename(copying, digest)
        finally:
            models.remove(copying)
    log.info("%s: copied to %s", model, models.path(digest))
    return models.sub(digest)


def fetch_local_file(location: str) -> str:
    """The path of a file, downloaded to the cache if it is remote. Raises StorageError."""
    if open_storage(location).is_local:
        return location
    parent, key = split_location(location)
    folder = open_cache().sub("files").sub(sha256_of(location.encode())[:32])
    name = "file" if invalid_name_reason(key) else key
    try:
        with parent.open_read(key) as source, folder.open_write(name) as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    except FileNotFoundError as error:
        raise StorageError(f"{location}: no such file; check its name") from error
    return str(folder.path(name))


def remove_copy(digest: str) -> None:
    """Delete a model's copy that is damaged."""
    open_cache().sub("models").remove(digest)
