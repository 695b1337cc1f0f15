"""The files of a run in order, cut into shards while they are still being listed."""

import concurrent.futures
import contextvars
import dataclasses
import itertools
import json
import math
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from visionflows.hashing import sha256_of
from visionflows.scoring.columns import csv_cells
from visionflows.storage.base import Entry

Item = TypeVar("Item")


class ReusedRow(NamedTuple):
    """A row that an earlier run wrote of the same bytes; `backend` is an index (0: this run's).

    It is a line of CSV: as cells, a thousand rows of ten thousand classes would take a gigabyte.
    """

    line: str
    sha256: str
    backend: int

    @property
    def cells(self) -> list[str]:
        """The cells of the row."""
        return csv_cells(self.line)


class File(NamedTuple):
    """A file to score, or its reused row; `last_failure` is its status in an earlier run."""

    entry: Entry
    reused: ReusedRow | None = None
    last_failure: str = ""


@dataclasses.dataclass(frozen=True)
class Shard:
    """Consecutive files, at `offset` in the temporary file; `names` digests their names."""

    index: int
    count: int
    offset: int
    length: int
    names: str

    @property
    def part(self) -> str:
        """The name of the shard's part, without an ending."""
        return f"parts/part-{self.index:05d}"


class Listing:
    """The files to score, which a thread writes to an unnamed temporary file, a shard at a time."""

    def __init__(self, shard_size: int):
        self.shards: list[Shard] = []
        self.found = self.bytes = self.reused = 0
        self._closed = False
        self._spool = tempfile.TemporaryFile(prefix="visionflows-")  # noqa: SIM115 (stays open)
        self._shard_size, self._offset = shard_size, 0
        self._changed = threading.Condition()
        self._filling: concurrent.futures.Future[None] = concurrent.futures.Future()

    @property
    def ended(self) -> bool:
        """Whether no more shards will be added."""
        return self._filling.done()

    @property
    def is_complete(self) -> bool:
        """Whether all files are listed."""
        return self.ended and not self._closed and self._filling.exception() is None

    @property
    def digest(self) -> str:
        """A digest of all names, once listing has ended."""
        return sha256_of("".join(shard.names for shard in self.shards).encode())

    def files(self, shard: Shard) -> list[File]:
        """The files of a shard, in order."""
        data = json.loads(os.pread(self._spool.fileno(), shard.length, shard.offset))
        return [
            File(Entry(*entry), ReusedRow(*reused) if reused else None, last_failure)
            for entry, reused, last_failure in data
        ]

    def shard(self, index: int) -> Shard | None:
        """Wait for the shard of an index; None if there is none. Raises the error of listing."""
        with self._changed:
            self._changed.wait_for(lambda: index < len(self.shards) or self.ended)
        if index < len(self.shards):
            return self.shards[index]
        self._filling.result()
        return None

    def wait(self, files: float = math.inf) -> "Listing":
        """Wait for so many files, or the end. Raises the error of listing; returns itself."""
        with self._changed:
            self._changed.wait_for(lambda: self.ended or self.found >= files)
        if self.ended:
            self._filling.result()
        return self

    def close(self) -> None:
        """Stop listing at the next name."""
        self._closed = True

    def until_closed(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, until the listing is closed."""
        return itertools.takewhile(lambda _: not self._closed, items)

    def start(self, files: Iterable[File]) -> None:
        """Take sorted files in a thread."""
        # The context carries the run's logging. A daemon, because a program does not wait for it.
        run = contextvars.copy_context().run
        name = "visionflows-listing"
        threading.Thread(target=run, args=(self._fill, files), name=name, daemon=True).start()

    def _fill(self, files: Iterable[File]) -> None:
        try:
            remaining = iter(files)
            while pending := [*itertools.islice(remaining, self._shard_size)]:
                self._add_shard(pending)
            self._filling.set_result(None)
        except BaseException as error:  # noqa: BLE001 (raised where the listing is waited for)
            self._filling.set_exception(error)
        with self._changed:
            self._changed.notify_all()

    def _add_shard(self, files: list[File]) -> None:
        data = json.dumps(files).encode()
        self._spool.write(data)
        self._spool.flush()
        names = digest_names(file.entry.name for file in files)
        shard = Shard(len(self.shards), len(files), self._offset, len(data), names)
        self._offset += len(data)
        with self._changed:
            self.found += len(files)
            self.bytes += sum(file.entry.size for file in files)
            self.reused += sum(file.reused is not None for file in files)
            self.shards.append(shard)
            self._changed.notify_all()


def digest_names(names: Iterable[str]) -> str:
    """The SHA-256 of names in their order."""
    return sha256_of("\0".join(names).encode("utf-8", "surrogateescape"))
