"""Models that lie elsewhere, copied to this machine once: by digest, so that a copy is never old.

from visionflows.storage.local_cache import copy_to_cache
files = copy_to_cache(place("s3://lab/store/models/pets/…"), names, text, digest)

<cache>/models/<digest>/        the files that scoring needs; model.json last
"""

import contextlib
import logging
import shutil
from collections.abc import Iterable

from visionflows.errors import StorageError
from visionflows.hashing import sha256_of
from visionflows.storage import is_local, open_cache, split_location
from visionflows.storage.base import Storage, invalid_name_reason
from visionflows.storage.local import LocalStorage

WAIT = 3600.0  # seconds to wait for another process that copies the same model

log = logging.getLogger("visionflows.copies")


def copy_to_cache(where: Storage, names: Iterable[str], text: bytes, digest: str) -> Storage:
    """The bundle's files on this machine; `where` itself if that is here.

    `text` is its model.json, of which `digest` is the sha256. Of two that copy at once the second
    waits for the first; what one that was killed left is begun anew.
    """
    if isinstance(where, LocalStorage):
        return where
    models, copying = open_cache().sub("models"), f".copying-{digest}"
    with models.lock(f"{copying}.lock", WAIT):
        if models.exists(f"{digest}/model.json"):
            return models.sub(digest)
        models.remove(copying)
        temporary = models.sub(copying)
        try:
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # told by whoever checks the files
                    temporary.write(name, where.read(name))
            temporary.write("model.json", text)
            models.rename(copying, digest)
        finally:
            models.remove(copying)
    log.info("%s: copied to %s", where, models.path(digest))
    return models.sub(digest)


def fetch_local_file(where: str) -> str:
    """The path of a file that may lie elsewhere, then copied here. Raises PlaceError."""
    if is_local(where):
        return where
    parent, key = split_location(where)
    kept = open_cache().sub("files").sub(sha256_of(where.encode())[:32])
    name = "file" if invalid_name_reason(key) else key  # a key is no path
    try:
        with parent.open_read(key) as source, kept.open_write(name) as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    except FileNotFoundError as error:
        raise StorageError(f"{where}: no such file; check its name") from error
    return str(kept.path(name))


def remove_copy(digest: str) -> None:
    """Remove a copy that was found damaged."""
    open_cache().sub("models").remove(digest)
