"""Models that lie elsewhere, copied to this machine once: by digest, so that a copy is never old.

from visionflows.places.copies import local_copy
files = local_copy(place("s3://lab/store/models/pets/…"), names, text, digest)

<cache>/models/<digest>/        the files that scoring needs; model.json last
"""

import logging
import secrets
import shutil
from collections.abc import Iterable

from visionflows.digest import sha256_of
from visionflows.errors import PlaceError
from visionflows.places import cache, file_in, is_local
from visionflows.places.base import Place, name_fault
from visionflows.places.local import LocalPlace

log = logging.getLogger("visionflows.copies")


def local_copy(where: Place, names: Iterable[str], text: bytes, digest: str) -> Place:
    """The bundle's files on this machine; `where` itself if that is here.

    `text` is its model.json, of which `digest` is the sha256. Two that copy at once do not meet:
    each fills a folder of its own, and the first one to end gives it the name.
    """
    if isinstance(where, LocalPlace):
        return where
    models = cache().sub("models")
    if models.exists(f"{digest}/model.json"):
        return models.sub(digest)
    draft = models.sub(f".copying-{secrets.token_hex(8)}")
    try:
        for name in names:
            if where.exists(name):  # what is missing is told by whoever checks the files
                draft.write(name, where.read(name))
        draft.write("model.json", text)
        try:
            draft.path().rename(models.path(digest))
        except OSError:
            if not models.exists(f"{digest}/model.json"):
                raise
        else:
            log.info("%s: copied to %s", where, models.path(digest))
    finally:
        draft.remove("")
    return models.sub(digest)


def local_file(where: str) -> str:
    """The path of a file that may lie elsewhere, then copied here. Raises PlaceError."""
    if is_local(where):
        return where
    parent, key = file_in(where)
    kept = cache().sub("files").sub(sha256_of(where.encode())[:32])
    name = "file" if name_fault(key) else key  # a key is no path
    try:
        with parent.open_read(key) as source, kept.open_write(name) as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    except FileNotFoundError as error:
        raise PlaceError(f"{where}: no such file; check its name") from error
    return str(kept.path(name))


def forget(digest: str) -> None:
    """Remove a copy that was found damaged."""
    cache().sub("models").remove(digest)
