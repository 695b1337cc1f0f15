"""Images that people corrected and the dataset lacks, copied into the store to be trained on.

    <store>/datasets/.corrections/<sha256>.jpg     an image, kept when its inbox is emptied
    <store>/datasets/.corrected/<digest>/          links to the contents of the dataset's folder,
                                                   and corrections/ with links to the images

A dataset's own folder is never written to. For a store in a bucket both are in the local cache.
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
from visionflows.storage import open_storage
from visionflows.storage.base import LISTED, Entry, Storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name

_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,8}")


def import_images(corrections: Iterable[Correction], store: str | Path) -> dict[str, str]:
    """Return the names, by sha256, of the images that are in `imported_storage` afterwards.

    An image is taken from where its correction says, if it has the same content.
    """
    imported, names = imported_storage(store), {}
    for correction in corrections:
        extension = posixpath.splitext(correction.path)[1]
        name = correction.sha256 + (extension if _EXTENSION.fullmatch(extension) else "")
        if _read_if_same(imported, name, correction.sha256) is None:
            data = _find_image(correction)
            if data is None:
                continue
            imported.write(name, data)
        names[correction.sha256] = name
    return names


def imported_storage(store: str | Path) -> LocalStorage:
    """Return the folder of the imported images."""
    return datasets_storage(store).sub(".corrections")


def unused_folder_name(folder: str | Path) -> str:
    """Return a name for the folder of imported images that `folder` does not contain yet."""
    names = itertools.chain([FOLDER], (f"{FOLDER}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(os.path.join(folder, name)))


def link_folder(
    folder: str | Path, names: Iterable[str], fingerprint: str, store: str | Path
) -> Path:
    """Return a folder of links to the contents of `folder` and to the imported images.

    It is made once for a table of this fingerprint.
    """
    linked, imported = _linked_path(folder, fingerprint, store), imported_storage(store)
    if linked.exists():
        return linked
    source, temporary = os.path.abspath(folder), linked.with_name(f"new-{secrets.token_hex(8)}")
    images = temporary / unused_folder_name(folder)
    images.mkdir(parents=True)
    for name in os.listdir(source):
        (temporary / name).symlink_to(os.path.join(source, name))
    for name in names:
        (images / name).symlink_to(imported.path(name))
    try:
        temporary.rename(linked)
    except OSError:  # another run has made the same
        shutil.rmtree(temporary)
        if not linked.exists():
            raise
    return linked


def images_folder(folder: str | Path, fingerprint: str, store: str | Path) -> str | Path:
    """Return the folder that `link_folder` made for a table of this fingerprint, else `folder`."""
    if not open_storage(folder).is_local:
        return folder
    linked = _linked_path(folder, fingerprint, store)
    return linked if linked.exists() else folder


def _linked_path(folder: str | Path, fingerprint: str, store: str | Path) -> Path:
    key = f"{os.path.abspath(folder)}\0{fingerprint}"
    digest = sha256_of(key.encode("utf-8", "surrogateescape"))[:32]
    return datasets_storage(store).path(f".corrected/{digest}")


def _find_image(correction: Correction) -> bytes | None:
    try:
        locations = correction.locations
    except SettingsError as error:
        raise TableError(f"corrections: the root of {correction.path}: {error}") from error
    name = decode_name(correction.path)
    contents = (_read_if_same(location, name, correction.sha256) for location in locations)
    return next((data for data in contents if data is not None), None)


def _read_if_same(storage: Storage, name: str, sha256: str) -> bytes | None:
    """Return a file's content if it has this sha256; None for another content or no file.

    Raises StorageError if the file cannot be read: without it the model would be another one.
    """
    try:
        (data,) = storage.read_many([Entry(name, 0, LISTED)])
    except StorageError as error:
        raise StorageError(f"corrections: {error}") from error
    if isinstance(data, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return None
    if isinstance(data, OSError):
        reason = data.strerror or data
        raise StorageError(f"corrections: {storage}/{name}: cannot be read ({reason})")
    return data if sha256_of(data) == sha256 else None
