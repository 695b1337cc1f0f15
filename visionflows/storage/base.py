"""What every place can do, and what it says of a file: the ground that folders and buckets share.

    from visionflows.storage.base import Entry, Place, ReadFailed, validate_name
    validate_name("cats/1.jpg")                       # or a PlaceError, in one line

A place knows its files by names relative to it, with `/` between folders: what the file system
says, or what a key has after its prefix. `visionflows.storage.name_encoding` turns a name into text that
fits into a CSV, and back.
"""

import contextlib
import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from visionflows.bounded_read import TooLarge, out_of_memory
from visionflows.errors import StorageError, one_line
from visionflows.storage.name_encoding import encode_name

MISSING = "missing"  # the version of an entry that was gone before its size could be read
LISTED = "listed"  # the version of one that a list names, and that was not looked at
_NOT_PARTS = frozenset(("", ".", ".."))
# What systems and programs leave among pictures: Macs, Synology's and QNAP's storage, Windows,
# ext4, and Lightroom, whose previews are pictures.
_LEFT_BEHIND = {
    name.lower(): name
    for name in (
        *("__MACOSX", "Network Trash Folder", "Temporary Items"),
        *("@eaDir", "@tmp", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot"),
        *("$RECYCLE.BIN", "System Volume Information", "lost+found"),
    )
}
_LEFT_ENDINGS = (".lrdata", ".lrcat-data")


class Entry(NamedTuple):
    """A file in a place: its name there, its size in bytes, and a mark that changes with it."""

    name: str
    size: int
    version: str


def identifies_content(version: str) -> bool:
    """Whether two files of this version are the same: a time alone (`@…`) does not say so."""
    return version not in ("", LISTED) and not version.startswith("@")


class ReadFailed(OSError):
    """A file that could not be brought: its bytes did not come, or are not those listed."""


def read_or_error(entry: Entry, most: int | None, read: Callable[[], bytes]) -> bytes | OSError:
    """What `read` brings of a file, or what hinders it; over `most` bytes TooLarge, unread."""
    if most is not None and entry.size > most:
        return TooLarge(entry.size)
    try:
        return read()
    except OSError as error:
        return error
    except MemoryError:
        return out_of_memory()


def hidden_kind(part: str) -> str:
    """The kind of thing that a part of a name hides, such as `.*` or `@eaDir`; empty for none."""
    if part.startswith("."):
        return "" if part in (".", "..") else ".*"
    name = part.lower()
    ending = next((f"*{ending}" for ending in _LEFT_ENDINGS if name.endswith(ending)), "")
    if re.fullmatch(r"found\.\d{3}", name):  # where Windows puts what it saves of a broken disk
        return "found.000"
    return _LEFT_BEHIND.get(name, ending)


def invalid_name_reason(name: str) -> str | None:
    """Why a name cannot be one of a file in a place; None where it can.

    A key of a bucket may be such a name all the same: it is read as it was listed, and never
    becomes a path on this machine.
    """
    if not name:
        return "an empty name"
    if "\0" in name:
        return "has a zero byte"
    if name.startswith("/"):
        return "is absolute"
    if not _NOT_PARTS.isdisjoint(name.split("/")):
        return "has an empty part, or . or .. as one"
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "stands for bytes that no name has"
    return None


def validate_name(name: str) -> str:
    """The name, if it can be one of a file in a place: the one rule, for reading and writing.

    Raises PlaceError for one that is empty or absolute, or has an empty part, `.` or `..`.
    """
    fault = invalid_name_reason(name)
    if fault:
        raise StorageError(f"{one_line(ascii(name))}: no name of a file ({fault}); give another")
    return name


@dataclasses.dataclass
class SkippedFiles:
    """What a walk passed over: hidden files and folders, a count for each kind, whatever they
    hold; and folders closed to us, by their names, with what the system says of them.
    """

    hidden: Counter[str] = dataclasses.field(default_factory=Counter)
    closed: dict[str, str] = dataclasses.field(default_factory=dict)
    _last: list[str] = dataclasses.field(default_factory=list)  # down to the one counted last

    def hides(self, name: str) -> bool:
        """Whether a part of a whole name hides it; counted once for the names of one folder,
        which follow each other."""
        parts = name.split("/")
        at = next((at for at, part in enumerate(parts) if hidden_kind(part)), None)
        if at is not None and parts[: at + 1] != self._last:
            self._last = parts[: at + 1]
            self.hidden[hidden_kind(parts[at])] += 1
        return at is not None

    def lines(self) -> list[str]:
        """The same for a person, a line each."""
        lines = []
        if self.hidden:
            counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.hidden.items()))
            lines.append(f"passed over, as systems leave it or a dot hides it: {counts}")
        if self.closed:
            first = [f"{encode_name(name)} ({why})" for name, why in [*self.closed.items()][:3]]
            first = [told if told.isprintable() else repr(told) for told in first]
            more = ", …" if len(self.closed) > 3 else ""
            lines.append(
                f"folders closed to this user, left out: {len(self.closed)}, "
                f"{', '.join(first)}{more}"
            )
        return lines


class Storage(Protocol):
    """A storage location: files by name. A file that does not exist is a FileNotFoundError."""

    is_local: bool  # whether it is a folder on this machine

    def local_path(self, name: str = "") -> Path | None: ...
    def absolute(self) -> str: ...
    def name_inside(self, other: "Storage") -> str | None: ...
    def invalid_name_reason(self, name: str) -> str | None: ...
    def walk(
        self,
        keep: Callable[[str], bool] | None = None,
        skipped: SkippedFiles | None = None,
    ) -> Iterator[Entry]: ...
    def entry(self, name: str) -> Entry: ...
    def read(self, name: str) -> bytes: ...
    def head(self, name: str, size: int) -> bytes: ...
    def read_many(
        self, entries: Iterable[Entry], most: int | None = None
    ) -> Iterator[bytes | OSError]: ...
    def open_read(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]: ...
    def write(self, name: str, data: bytes) -> None: ...
    def open_write(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]: ...
    def exists(self, name: str = "") -> bool: ...
    def names(self, name: str = "") -> list[str]: ...
    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> None: ...
    def remove(self, name: str) -> None: ...
    def remove_if_empty(self) -> None: ...
    def rename(self, name: str, to: str) -> None: ...
    def sub(self, name: str) -> "Storage": ...
    def clear_temporary(self, folders: Iterable[str], ours: Callable[[str], object]) -> None: ...
    def check_readable(self, names: list[str]) -> None: ...
    def check_writable(self) -> None: ...
    def free_bytes(self) -> int | None: ...
    def lock(self, name: str, wait: float = 0.0) -> contextlib.AbstractContextManager[None]: ...
