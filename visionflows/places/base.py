"""What every place can do, and what it says of a file: the ground that folders and buckets share.

    from visionflows.places.base import Entry, Place, ReadFailed, checked_name
    checked_name("cats/1.jpg")                       # or a PlaceError, in one line

A place knows its files by names relative to it, with `/` between folders: what the file system
says, or what a key has after its prefix. `visionflows.places.names` turns a name into text that
fits into a CSV, and back.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple, Protocol

from visionflows.errors import PlaceError, one_line

MISSING = "missing"  # the version of an entry that was gone before its size could be read
LISTED = "listed"  # the version of one that a list names, and that was not looked at


_NOT_PARTS = frozenset(("", ".", ".."))


class Entry(NamedTuple):
    """A file in a place: its name there, its size in bytes, and a mark that changes with it."""

    name: str
    size: int
    version: str


def certain(version: str) -> bool:
    """Whether two files of this version are the same: a time alone (`@…`) does not say so."""
    return version not in ("", LISTED) and not version.startswith("@")


class ReadFailed(OSError):
    """A file that could not be brought: its bytes did not come, or are not those listed."""


def name_fault(name: str) -> str | None:
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


def checked_name(name: str) -> str:
    """The name, if it can be one of a file in a place: the one rule, for reading and writing.

    Raises PlaceError for one that is empty or absolute, or has an empty part, `.` or `..`.
    """
    fault = name_fault(name)
    if fault:
        raise PlaceError(f"{one_line(ascii(name))}: no name of a file ({fault}); give another")
    return name


def is_hidden(part: str) -> bool:
    """Whether a part of a name hides what it names: a dot in front, or what a Mac packs beside."""
    return part == "__MACOSX" or (part.startswith(".") and part not in (".", ".."))


class Place(Protocol):
    """What a place can do, wherever it lies. A file that is not there is a FileNotFoundError."""

    def walk(self, keep: Callable[[str], bool] | None = None) -> Iterator[Entry]: ...
    def read(self, name: str) -> bytes: ...
    def read_many(self, entries: Iterable[Entry]) -> Iterator[bytes | OSError]: ...
    def open_read(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]: ...
    def write(self, name: str, data: bytes) -> None: ...
    def open_write(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]: ...
    def exists(self, name: str = "") -> bool: ...
    def names(self, name: str = "") -> list[str]: ...
    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> None: ...
    def remove(self, name: str) -> None: ...
    def rename(self, name: str, to: str) -> None: ...
    def sub(self, name: str) -> "Place": ...
    def check_readable(self, names: list[str]) -> None: ...
    def check_writable(self) -> None: ...
    def free_bytes(self) -> int | None: ...
    def lock(self, name: str, wait: float = 0.0) -> contextlib.AbstractContextManager[None]: ...
