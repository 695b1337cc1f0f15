"""Storage locations: folders and prefixes in buckets, read and written through one interface.

    from visionflows.storage import open_storage
    for entry in open_storage("inbox").walk():
        print(entry.name, entry.size)

VISIONFLOWS_CACHE (default ~/.cache/visionflows) holds copies of remote datasets and models, and
downscaled photos. It may be deleted at any time.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from visionflows.errors import DeniedError, SettingsError, VisionflowsError
from visionflows.storage.base import ReadFailed, Storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name, encode_name


def open_storage(location: str | Path) -> Storage:
    """The storage at a local path (`~` allowed) or `s3://bucket/prefix`; nothing is accessed yet.

    Raises SettingsError for an empty name and an unknown scheme.
    """
    text = os.fspath(location)
    if not text:
        raise SettingsError("the location is empty; name a folder, such as ./inbox")
    scheme, separator, _ = text.partition("://")
    if not separator or scheme == "file":
        path = Path(text.removeprefix("file://"))
        try:
            return LocalStorage(path.expanduser())
        except RuntimeError as error:
            if text.partition("/")[0] == "~":
                raise  # HOME is not set
            raise SettingsError(f"{text}: no such user; write ./{text} for a folder") from error
    if scheme == "s3":
        from visionflows.storage.s3.storage import S3Storage

        return S3Storage.parse(text)
    raise SettingsError(f"{text}: {scheme}:// is not supported; name a folder or an s3:// URI")


def split_location(location: str) -> tuple[Storage, str]:
    """The storage that a file is in, and the file's name there."""
    if open_storage(location).is_local:
        folder, name = os.path.split(location.removeprefix("file://"))
        return open_storage(folder or "."), name
    folder, _, name = location.rpartition("/")
    return open_storage(f"{folder}/"), name  # with its slash, as a key may have two: a//b


def split_bucket(location: str) -> tuple[str, str]:
    """The scheme and bucket of a location (empty for a local path), and the absolute path there."""
    scheme, separator, rest = location.removeprefix("file://").partition("://")
    if not separator:
        return "", os.path.abspath(scheme)
    bucket, _, path = rest.partition("/")
    return f"{scheme}://{bucket}", f"/{path}"


def absolute(location: str | Path) -> str:
    """The location as text that means the same from any working directory."""
    return open_storage(location).absolute()


def location_text(storage: Storage, absolute: bool = True) -> str:
    """The location as text that fits into a CSV or JSON file; see `open_location`."""
    text = storage.absolute() if absolute else str(storage)
    return encode_name(text) if storage.is_local else text


def open_location(text: str) -> Storage:
    """The storage location that `location_text` wrote."""
    storage = open_storage(text)
    return open_storage(decode_name(text)) if storage.is_local else storage


def own_locations(store: str | Path, output: str | Path = "") -> tuple[Storage, ...]:
    """What is never data where it lies in an input: the store, an output, and the cache."""
    named = [open_storage(one) for one in (store, output) if one]
    # The folders of the store, in case that the input is the store itself.
    folders = ("datasets", "models", "scores", "evaluations") if store else ()
    return (*named, *(named[0].sub(name) for name in folders), open_cache())


def open_cache() -> LocalStorage:
    """The folder on this machine that holds copies of remote files."""
    folder = os.environ.get("VISIONFLOWS_CACHE") or "~/.cache/visionflows"
    return LocalStorage(Path(folder).expanduser().absolute())


def open_local_or_cache(location: str | Path) -> LocalStorage:
    """The location itself if it is on this machine, else the cache."""
    storage = open_storage(location)
    return storage if isinstance(storage, LocalStorage) else open_cache()


def check_access(location: str) -> Iterator[tuple[str, bool, str]]:
    """For list, write, read and delete: the step, whether it works, and the reason if not.

    Writes a small file, reads it and deletes it. An error that concerns every step (no credentials,
    no such bucket, endpoint down) is the last entry.
    """
    storage, name = open_storage(location), f".probe-{secrets.token_hex(8)}"
    steps: dict[str, Callable[[], object]] = {
        "list": storage.exists,
        "write": lambda: storage.write(name, b"visionflows was here"),
        "read": lambda: storage.read(name),
        "delete": lambda: storage.remove(name),
    }
    for step, run in steps.items():
        try:
            run()
        except FileNotFoundError:  # nothing could be written, so there is nothing to read
            yield step, True, ""
        except (DeniedError, ReadFailed) as error:
            yield step, False, getattr(error, "strerror", None) or str(error)
        except VisionflowsError as error:
            yield step, False, str(error)
            return
        else:
            yield step, True, ""
