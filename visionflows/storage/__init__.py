"""Places: folders and prefixes in buckets, read and written through one set of calls.

Here belongs how bytes are listed, read, written, locked and kept; not what is in them.

    from visionflows.storage import place
    for entry in place("inbox").walk():
        print(entry.name, entry.size)

Only this file knows both kinds of place. What is copied to this machine lies in
VISIONFLOWS_CACHE, by default ~/.cache/visionflows: the datasets and the models of a store that is
not on it, and large photos as training decoded them. Nothing there is needed again.
"""

import os
from pathlib import Path

from visionflows.errors import SettingsError
from visionflows.storage.base import Storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name, encode_name


def open_storage(where: str | Path) -> Storage:
    """The place a person named: a local path (`~` allowed) or `s3://bucket/prefix`.

    Raises SettingsError for an empty name and for a scheme that is not known.
    """
    text = os.fspath(where)
    if not text:
        raise SettingsError("an empty place: name a folder, such as ./inbox")
    scheme, separator, _ = text.partition("://")
    if not separator or scheme == "file":
        return LocalStorage(Path(text.removeprefix("file://")).expanduser())
    if scheme == "s3":
        from visionflows.storage.s3.storage import S3Storage

        return S3Storage.named(text)
    raise SettingsError(f"{text}: {scheme}:// is not a place visionflows can use; name a folder")


def split_location(where: str) -> tuple[Storage, str]:
    """The place that a file lies in, and its name there: of a path, or `s3://bucket/a/key`."""
    if is_local(where):
        folder, name = os.path.split(where.removeprefix("file://"))
        return open_storage(folder or "."), name
    folder, _, name = where.rpartition("/")
    return open_storage(f"{folder}/"), name  # with its slash, as a key may have two of them: a//b


def absolute(where: str | Path) -> str:
    """The place's name as any process of this machine understands it, wherever that one works."""
    found = open_storage(where)
    return str(found.path().absolute()) if isinstance(found, LocalStorage) else os.fspath(where)


def location_text(storage: Storage) -> str:
    """The absolute location as text that fits into a CSV or JSON file; see `open_location`."""
    return encode_name(storage.absolute()) if storage.is_local else storage.absolute()


def open_location(text: str) -> Storage:
    """The storage location that `location_text` wrote."""
    storage = open_storage(text)
    return open_storage(decode_name(text)) if storage.is_local else storage


def is_local(where: str | Path) -> bool:
    """Whether a place's name means a path on this machine."""
    return "://" not in os.fspath(where) or os.fspath(where).startswith("file://")


def open_cache() -> "LocalStorage":
    """Where copies of what lies elsewhere are kept on this machine."""
    folder = os.environ.get("VISIONFLOWS_CACHE") or "~/.cache/visionflows"
    return LocalStorage(Path(folder).expanduser().absolute())
