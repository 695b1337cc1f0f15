"""The files of a run in order, cut into shards while they are still being listed.

The files lie in an unnamed temporary file, which goes with the process. Memory holds one shard.
"""

import concurrent.futures
import contextlib
import contextvars
import dataclasses
import json
import os
import tempfile
import threading
from collections.abc import Iterable
from typing import NamedTuple

from visionflows.hashing import sha256_of
from visionflows.storage.base import Entry


class ReusedRow(NamedTuple):
    """A row that an earlier run wrote of the same bytes: its cells, and the SHA-256 of the file.

    `backend` is the index of what computed it in the run's backends; 0 is the run's own.
    """

    cells: list[str]
    sha256: str
    backend: int


class File(NamedTuple):
    """A file to score, or its reused row.

    `last_failure` is the status of an earlier row that tells nothing about the file's bytes.
    """

    entry: Entry
    reused: ReusedRow | None = None
    last_failure: str = ""


@dataclasses.dataclass(frozen=True)
class Shard:
    """Consecutive files of the listing.

    `offset` and `length` locate them in the temporary file; `names` is a digest of their names.
    """

    index: int
    count: int
    offset: int
    length: int
    names: str

    @property
    def part(self) -> str:
        """The name of the shard's part, without an ending."""
        return f"parts/part-{self.index:05d}"


class _ClosedError(Exception):
    """The listing is closed."""


class Listing:
    """The files to score in shards, filled by a thread.

    `found`, `bytes` and `reused` count files, their bytes, and reused rows of the shards so far.
    """

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
        data = os.pread(self._spool.fileno(), shard.length, shard.offset)
        fields = data.decode("utf-8", "surrogateescape").split("\0")
        return [_parse_file(*fields[at : at + 7]) for at in range(0, len(fields) - 1, 7)]

    def shard(self, index: int) -> Shard | None:
        """Wait for the shard of an index; None if there is none. Raises the error of listing."""
        with self._changed:
            self._changed.wait_for(lambda: index < len(self.shards) or self.ended)
        if index < len(self.shards):
            return self.shards[index]
        self._filling.result()
        return None

    def wait(self, files: int | None = None) -> "Listing":
        """Wait for so many files, or the end. Raises the error of listing; returns itself."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.ended or (files is not None and self.found >= files)
            )
        if self.ended:
            self._filling.result()
        return self

    def close(self) -> None:
        """Stop listing at the next name."""
        self._closed = True

    def check_open(self, _: str = "") -> bool:
        """True; raises in the thread of a closed listing. Called for every name."""
        if self._closed:
            raise _ClosedError
        return True

    def start(self, files: Iterable[File]) -> None:
        """Take sorted files in a thread."""
        # The context carries the run's logging. A daemon, because a program does not wait for it.
        run = contextvars.copy_context().run
        threading.Thread(
            target=run, args=(self._fill, files), name="visionflows-listing", daemon=True
        ).start()

    def _fill(self, files: Iterable[File]) -> None:
        try:
            with contextlib.suppress(_ClosedError):
                self._take(files)
            self._filling.set_result(None)
        except BaseException as error:  # noqa: BLE001 (raised where the listing is waited for)
            self._filling.set_exception(error)
        with self._changed:
            self._changed.notify_all()

    def _take(self, files: Iterable[File]) -> None:
        pending: list[File] = []
        for file in files:
            self.check_open()
            pending.append(file)
            if len(pending) == self._shard_size:
                self._add_shard(pending)
                pending = []
        if pending:
            self._add_shard(pending)

    def _add_shard(self, files: list[File]) -> None:
        data = "".join(map(_format_file, files)).encode("utf-8", "surrogateescape")
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


def _format_file(file: File) -> str:
    (name, size, version), row, last_failure = file
    tail = f"{row.sha256}\0{row.backend}\0{json.dumps(row.cells)}\0" if row else "\0\0\0"
    return f"{name}\0{size}\0{version}\0{last_failure}\0{tail}"


def _parse_file(name: str, size: str, version: str, last_failure: str, *row: str) -> File:
    sha256, backend, cells = row
    reused = ReusedRow(json.loads(cells), sha256, int(backend)) if cells else None
    return File(Entry(name, int(size), version), reused, last_failure)


def digest_names(names: Iterable[str]) -> str:
    """The SHA-256 of names in their order."""
    return sha256_of("\0".join(names).encode("utf-8", "surrogateescape"))
