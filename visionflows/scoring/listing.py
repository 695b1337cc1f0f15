"""What is to score: a place's images, sorted, cut into shards, spooled to a local file.

    from visionflows.scoring.listing import File, Listing
    listing = Listing(shard_size=1000)
    listing.fill((File(entry) for entry in place("inbox").walk(listing.goes_on)), sorted_=True)
    listing.files(listing.at(0))                     # while the rest is still being listed

However many files there are, only one shard of them is in memory at a time: the rest lies in a
temporary file without a name, which is gone with the process however that ends.
"""

import concurrent.futures
import contextlib
import contextvars
import dataclasses
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from visionflows.hashing import sha256_of
from visionflows.storage.base import Entry
from visionflows.storage.name_encoding import encode_name


class Kept(NamedTuple):
    """A row that an earlier run wrote of the same bytes: its cells, their sha256, what computed it.

    `by` is a place in the list of all that computed rows of this run; 0 is the run itself.
    """

    cells: list[str]
    sha256: str
    by: int


class File(NamedTuple):
    """A file of a listing, and the row it has already, if any.

    `failed` is the status of a row that it had before, where that says nothing of its bytes.
    """

    entry: Entry
    kept: Kept | None = None
    failed: str = ""


@dataclasses.dataclass(frozen=True)
class Shard:
    """Consecutive files of the sorted listing, where their records lie, a digest of their names."""

    index: int
    count: int
    offset: int
    length: int
    names: str

    @property
    def part(self) -> str:
        return f"parts/part-{self.index:05d}"


class _ClosedError(Exception):
    """Nobody wants to know the rest of a listing."""


class Listing:
    """The sorted files to score, in shards. It grows, by a thread, until it has ended.

    `found`, `bytes` and `kept` count the files, their bytes and those that have a row already, of
    the shards so far. `unsorted` says that it was given up: a name came after a later one.
    """

    def __init__(self, shard_size: int):
        self.shards: list[Shard] = []
        self.found = self.bytes = self.kept = 0
        self.unsorted = self._closed = False
        self._spool = tempfile.TemporaryFile(prefix="visionflows-")  # noqa: SIM115 (it is kept)
        self._shard_size, self._offset = shard_size, 0
        self._grown = threading.Condition()
        self._filling: concurrent.futures.Future[None] = concurrent.futures.Future()

    @property
    def ended(self) -> bool:
        """Whether no shard comes any more."""
        return self._filling.done()

    @property
    def whole(self) -> bool:
        """Whether all there is has been listed, in order."""
        given_up = self.unsorted or self._closed
        return self.ended and not given_up and self._filling.exception() is None

    @property
    def digest(self) -> str:
        """What changes with any name in it, once it has ended."""
        return sha256_of("".join(shard.names for shard in self.shards).encode())

    def files(self, shard: Shard) -> list[File]:
        """The files of a shard, in order."""
        data = os.pread(self._spool.fileno(), shard.length, shard.offset)
        fields = data.decode("utf-8", "surrogateescape").split("\0")
        return [_file(*fields[at : at + 7]) for at in range(0, len(fields) - 1, 7)]

    def at(self, index: int) -> Shard | None:
        """The shard of an index, as soon as it is listed; None if there is none. Raises what
        listing raised."""
        with self._grown:
            self._grown.wait_for(lambda: index < len(self.shards) or self.ended)
        if index < len(self.shards):
            return self.shards[index]
        self._filling.result()
        return None

    def wait(self, files: int | None = None) -> "Listing":
        """Itself, when it has so many files, or has ended. Raises what listing raised."""
        with self._grown:
            self._grown.wait_for(lambda: self.ended or (files is not None and self.found >= files))
        if self.ended:
            self._filling.result()
        return self

    def close(self) -> None:
        """Let no more come: whoever is still listing stops at the next name."""
        self._closed = True

    def goes_on(self, _: str = "") -> bool:
        """True, to be asked of every name that comes, whatever becomes of it; ends a thread whose
        listing is closed."""
        if self._closed:
            raise _ClosedError
        return True

    def fill(self, files: Iterable[File], sorted_: bool) -> None:
        """Have a thread take the files, which it sees to be sorted where they may not be."""
        # What the thread logs belongs to the run that has begun it. Nobody waits for it at an exit.
        work, what = contextvars.copy_context().run, (self._fill, files, sorted_)
        threading.Thread(target=work, args=what, name="visionflows-listing", daemon=True).start()

    def _fill(self, files: Iterable[File], sorted_: bool) -> None:
        try:
            with contextlib.suppress(_ClosedError):
                self._take(files, sorted_)
            self._filling.set_result(None)
        except BaseException as error:  # noqa: BLE001 (raised where the listing is waited for)
            self._filling.set_exception(error)
        with self._grown:
            self._grown.notify_all()

    def _take(self, files: Iterable[File], sorted_: bool) -> None:
        some: list[File] = []
        last = ""
        for file in files:
            if not sorted_:
                self.unsorted = (text := encode_name(file.entry.name)) < last
                last = text
            if self.goes_on() and self.unsorted:
                return
            some.append(file)
            if len(some) == self._shard_size:
                self._end_shard(some)
                some = []
        if some:
            self._end_shard(some)

    def _end_shard(self, files: list[File]) -> None:
        data = "".join(map(_line, files)).encode("utf-8", "surrogateescape")
        self._spool.write(data)
        self._spool.flush()
        names = names_digest(file.entry.name for file in files)
        shard = Shard(len(self.shards), len(files), self._offset, len(data), names)
        self._offset += len(data)
        with self._grown:
            self.found += len(files)
            self.bytes += sum(file.entry.size for file in files)
            self.kept += sum(file.kept is not None for file in files)
            self.shards.append(shard)
            self._grown.notify_all()


def _line(file: File) -> str:
    (name, size, version), kept, failed = file
    tail = f"{kept.sha256}\0{kept.by}\0{json.dumps(kept.cells)}\0" if kept else "\0\0\0"
    return f"{name}\0{size}\0{version}\0{failed}\0{tail}"


def _file(name: str, size: str, version: str, failed: str, *row: str) -> File:
    sha256, by, cells = row
    kept = Kept(json.loads(cells), sha256, int(by)) if cells else None
    return File(Entry(name, int(size), version), kept, failed)


def names_digest(names: Iterable[str]) -> str:
    """The sha256 that tells these names, in this order, from all others."""
    return sha256_of("\0".join(names).encode("utf-8", "surrogateescape"))


def outside(entries: Iterable[Entry], folder: str | None) -> Iterator[Entry]:
    """The entries that do not lie in `folder`."""
    return (entry for entry in entries if not (folder and entry.name.startswith(f"{folder}/")))


def sort_key(entry: Entry) -> str:
    """What a listing is sorted by: the text of the whole name."""
    return encode_name(entry.name)
