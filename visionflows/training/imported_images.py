"""Images that people corrected and the dataset lacks, brought into the store to be trained on.

    from visionflows.training.imported_images import beside, bring, linked
    names = bring(corrections, "store")                  # of those that were found, by sha256
    folder = linked("photos", names.values(), fingerprint, "store")

    <store>/datasets/.corrections/<sha256>.jpg     an image, kept when its inbox is emptied
    <store>/datasets/.corrected/<digest>/          links to all that the dataset's folder holds, and
                                                   corrections/ with links to the images

A dataset's own folder is never written to. Of a store in a bucket both lie in the cache.
"""

import itertools
import os
import posixpath
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from visionflows.datasets.fetch import datasets_storage
from visionflows.errors import SettingsError, StorageError, TableError
from visionflows.hashing import sha256_of
from visionflows.review.corrections import FOLDER, Correction
from visionflows.storage import is_local
from visionflows.storage.base import LISTED, Entry, Storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name

_KEPT, _LINKED = ".corrections", ".corrected"
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,8}")


def bring(corrections: Iterable[Correction], store: str | Path) -> dict[str, str]:
    """The names, by sha256, under which the images that were found lie in `kept(store)`.

    Each is looked for there, and then where its correction says, and is taken only if it has that
    very content.
    """
    home, names = kept(store), {}
    for one in corrections:
        ending = posixpath.splitext(one.path)[1]
        name = one.sha256 + (ending if _ENDING.fullmatch(ending) else "")
        if _has(home, name, one.sha256) or _brought(one, home, name):
            names[one.sha256] = name
    return names


def kept(store: str | Path) -> LocalStorage:
    """Where the images lie that were brought."""
    return datasets_storage(store).sub(_KEPT)


def beside(folder: str | Path) -> str:
    """What the images' folder is called beside what a dataset's folder holds: it must be new."""
    names = itertools.chain([FOLDER], (f"{FOLDER}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(os.path.join(folder, name)))


def linked(folder: str | Path, names: Iterable[str], fingerprint: str, store: str | Path) -> Path:
    """A folder that holds what the dataset's holds, and the images in one that is called `beside`.

    It is made once for a table of this fingerprint.
    """
    made, images, there = _linked(folder, fingerprint, store), kept(store), os.path.abspath(folder)
    if made.exists():
        return made
    checkpoint = made.with_name(f"draft-{secrets.token_hex(8)}")
    new = checkpoint / beside(folder)
    new.mkdir(parents=True)
    for entry in os.listdir(there):
        (checkpoint / entry).symlink_to(os.path.join(there, entry))
    for name in names:
        (new / name).symlink_to(images.path(name))
    try:
        checkpoint.rename(made)
    except OSError:  # another run was at the same
        shutil.rmtree(checkpoint)
        if not made.exists():
            raise
    return made


def images_of(folder: str | Path, fingerprint: str, store: str | Path) -> str | Path:
    """The folder with the images of a table of this fingerprint: of a dataset's own folder, that
    which `linked` has made for it, if it did."""
    if not is_local(folder):
        return folder
    made = _linked(folder, fingerprint, store)
    return made if made.exists() else folder


def _linked(folder: str | Path, fingerprint: str, store: str | Path) -> Path:
    told = f"{os.path.abspath(folder)}\0{fingerprint}"
    digest = sha256_of(told.encode("utf-8", "surrogateescape"))[:32]
    return datasets_storage(store).path(f"{_LINKED}/{digest}")


def _has(where: Storage, name: str, sha256: str) -> bool:
    """Whether a place has that content under a name."""
    return _content(where, name, sha256) is not None


def _brought(one: Correction, home: LocalStorage, name: str) -> bool:
    try:
        locations = one.locations
    except SettingsError as error:
        raise TableError(f"corrections: the root of {one.path}: {error}") from error
    for where in locations:
        if (data := _content(where, decode_name(one.path), one.sha256)) is not None:
            home.write(name, data)
            return True
    return False


def _content(where: Storage, name: str, sha256: str) -> bytes | None:
    """What a file holds, if it is that; None for one that is gone, or another.

    Raises PlaceError where it cannot be told: without its photos a model would be another.
    """
    try:
        (data,) = where.read_many([Entry(name, 0, LISTED)])
    except StorageError as error:
        raise StorageError(f"corrections: {error}") from error
    if isinstance(data, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return None
    if isinstance(data, OSError):
        raise StorageError(f"corrections: {where}/{name}: cannot be read ({data.strerror or data})")
    return data if sha256_of(data) == sha256 else None
