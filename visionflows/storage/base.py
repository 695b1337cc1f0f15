"""The interface of a storage location, and the rules for file names that all backends share.

Names are relative to the location, with `/` between folders: what the file system returns, or a
key without its prefix. `visionflows.storage.name_encoding` makes text for a CSV of them.
"""

import contextlib
import dataclasses
import datetime
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from visionflows.errors import StorageError, one_line
from visionflows.storage.name_encoding import encode_name
from visionflows.storage.skipped_names import hidden_kind

MISSING = "missing"  # the version of an entry that vanished before its size was read
LISTED = "listed"  # the version of an entry named in a list, which was not looked up
Keep = Callable[[str], bool] | None  # filters by a file's own name
_INVALID_PARTS = frozenset(("", ".", ".."))
YOUNG = "younger than --min-age"  # a kind of skipped files


class Entry(NamedTuple):
    """A file: its name, its size in bytes, and a version that changes with its content."""

    name: str
    size: int
    version: str


def identifies_content(version: str) -> bool:
    """Whether two files of this version have the same content; a time (`@…`) does not say."""
    return version not in ("", LISTED) and not version.startswith("@")


class ReadFailed(OSError):
    """A file that could not be transferred, or is not the one that was listed."""


def invalid_name_reason(name: str) -> str | None:
    """Why a name cannot be that of a local file; None if it can."""
    if not name:
        return "an empty name"
    if "\0" in name:
        return "has a zero byte"
    if name.startswith("/"):
        return "is absolute"
    if not _INVALID_PARTS.isdisjoint(name.split("/")):
        return "has an empty part, or . or .. as one"
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "stands for bytes that no name has"
    return None


def validate_name(name: str) -> str:
    """The name itself. Raises StorageError if it is empty, absolute or has an invalid part."""
    if reason := invalid_name_reason(name):
        raise StorageError(
            f"{one_line(ascii(name))}: not the name of a file ({reason}); give another"
        )
    return name


@dataclasses.dataclass
class SkippedFiles:
    """What a walk skips, and what it skipped: counts by kind, and folders that were not listed.

    `own` are never data: the store, an output, the cache. Files that changed less than `min_age`
    seconds ago are left for a later walk. A folder whose disk or share fails ends the walk, or, if
    `unlisted` is a dict, is recorded there and yielded as an entry without a version.
    """

    own: tuple["Storage", ...] = ()
    follow_links: bool = True
    min_age: float = 0.0
    unlisted: dict[str, str] | None = None  # name: the system's reason
    denied: dict[str, str] = dataclasses.field(default_factory=dict)  # without permission
    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    started: float = dataclasses.field(default_factory=time.time, compare=False)
    _last: list[str] = dataclasses.field(default_factory=list)  # parts of the one counted last

    def count_if_young(self, changed: float) -> bool:
        """Whether a file that changed at a time was younger than `min_age` when the walk began."""
        is_young = 0 <= self.started - changed < self.min_age  # a clock ahead makes no file young
        if is_young:
            self.counts[YOUNG] += 1
        return is_young

    def count_if_hidden(self, name: str) -> bool:
        """Whether a part of a file's name is hidden.

        A hidden folder is counted once if the names in it follow each other.
        """
        parts = name.split("/")
        at = next((at for at, part in enumerate(parts) if hidden_kind(part)), None)
        if at is not None and parts[: at + 1] != self._last:
            self._last = parts[: at + 1]
            self.counts[hidden_kind(parts[at])] += 1
        return at is not None

    def lines(self) -> list[str]:
        """The same as log lines."""
        lines = []
        if self.counts:
            counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items()))
            lines.append(f"skipped: {counts}")
        if self.denied:
            first = [f"{encode_name(name)} ({why})" for name, why in [*self.denied.items()][:3]]
            more = ", …" if len(self.denied) > 3 else ""
            lines.append(
                f"skipped, as this user may not read the folder: {len(self.denied)}, "
                f"{', '.join(first)}{more}"
            )
        return lines


class Storage(Protocol):
    """A storage location; LocalStorage documents the methods without a body.

    A file that does not exist is a FileNotFoundError; every other failure is a StorageError, or a
    ReadFailed of one file.
    """

    is_local: bool  # whether it is a folder on this machine

    def name_inside(self, other: "Storage") -> str | None: ...
    def walk(self, keep: Keep = None, skipped: SkippedFiles | None = None) -> Iterator[Entry]: ...
    def entry(self, name: str) -> Entry: ...
    def read(self, name: str) -> bytes: ...
    def heads(self, names: Iterable[str], size: int) -> Iterator[bytes | OSError]: ...
    def read_many(
        self, entries: Iterable[Entry], max_bytes: int | None = None
    ) -> Iterator[bytes | OSError]: ...
    def open_read(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]: ...
    def open_write(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]: ...
    def exists(self, name: str = "") -> bool: ...
    def names(self, name: str = "") -> list[str]: ...
    def last_modified(self, name: str) -> dict[str, datetime.datetime]: ...
    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> None: ...
    def remove(self, name: str) -> None: ...
    def rename(self, name: str, to: str) -> None: ...
    def sub(self, name: str) -> "Storage": ...
    def clear_temporary(self, folders: Iterable[str], is_own: Callable[[str], object]) -> None: ...
    def check_writable(self) -> None: ...
    def lock(self, name: str, wait: float = 0.0) -> contextlib.AbstractContextManager[None]: ...

    def path(self, name: str = "") -> Path | None:
        """The path of a file, or of the folder itself; None for a location that is not local."""
        return None

    def absolute(self) -> str:
        """The location as text that means the same from any working directory."""
        return str(self)

    def invalid_name_reason(self, name: str) -> str | None:
        """Why a name cannot be that of a file here; None if it can."""
        return invalid_name_reason(name)

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically: it appears complete or not at all."""
        with self.open_write(name) as file:
            file.write(data)

    def remove_if_empty(self) -> None:
        """Delete the folder if nothing was written into it."""
        return  # a prefix without objects does not exist

    def check_readable(self, names: list[str]) -> None:
        """Raise DeniedError if these credentials may read none of the files."""
        return  # a folder has no credentials

    def free_bytes(self) -> int | None:
        """Bytes free on the disk that holds this folder, or will hold it; None if unlimited."""
        return None
