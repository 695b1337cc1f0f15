"""What is to score: a place's images, sorted, cut into shards, spooled to a local file.

    from visionflows.scoring.listing import File, list_files
    files = (File(entry) for entry in place("inbox").walk(is_image_name))
    listing = list_files(files, shard_size=1000)
    listing.files(listing.shards[0])

However many files there are, only one shard of them is in memory at a time: the rest lies in a
temporary file without a name, which is gone with the process however that ends.
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from visionflows.digest import sha256_of
from visionflows.places.base import Entry
from visionflows.places.names import text_of


class Kept(NamedTuple):
    """A row that an earlier run wrote of the same bytes: its cells, their sha256, what computed it.

    `by` is a place in the list of all that computed rows of this run; 0 is the run itself.
    """

    cells: list[str]
    sha256: str
    by: int


class File(NamedTuple):
    """A file of a listing, and the row it has already, if any."""

    entry: Entry
    kept: Kept | None = None


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


@dataclasses.dataclass(frozen=True)
class Listing:
    """The sorted files to score. `digest` changes with any name in it."""

    spool: BinaryIO
    shards: list[Shard]
    digest: str
    found: int
    bytes: int
    kept: int

    def files(self, shard: Shard) -> list[File]:
        """The files of a shard, in order."""
        data = os.pread(self.spool.fileno(), shard.length, shard.offset)
        fields = data.decode("utf-8", "surrogateescape").split("\0")
        return [_file(*fields[at : at + 6]) for at in range(0, len(fields) - 1, 6)]


def list_files(files: Iterable[File], shard_size: int) -> Listing:
    """The listing of sorted files, in shards of `shard_size`."""
    spool = tempfile.TemporaryFile(prefix="visionflows-")  # noqa: SIM115 (the listing keeps it)
    writer = _Writer(spool, shard_size)
    for file in files:
        writer.add(*file)
    writer.end_shard()
    spool.flush()
    digest = sha256_of("".join(shard.names for shard in writer.shards).encode())
    found = sum(shard.count for shard in writer.shards)
    return Listing(spool, writer.shards, digest, found, writer.bytes, writer.kept)


class _Writer:
    """Writes records to the spool and closes a shard whenever it has its files."""

    def __init__(self, file: BinaryIO, shard_size: int):
        self.file, self.shard_size = file, shard_size
        self.shards: list[Shard] = []
        self.bytes = self.kept = self.offset = 0
        self._begin()

    def _begin(self) -> None:
        self.records: list[str] = []
        self.names: list[str] = []

    def add(self, entry: Entry, kept: Kept | None) -> None:
        mark = f"{entry.name}\0{entry.size}\0{entry.version}\0"
        self.names.append(entry.name)
        tail = f"{kept.sha256}\0{kept.by}\0{json.dumps(kept.cells)}\0" if kept else "\0\0\0"
        self.records.append(mark + tail)
        self.bytes += entry.size
        self.kept += kept is not None
        if len(self.records) == self.shard_size:
            self.end_shard()

    def end_shard(self) -> None:
        if not self.records:
            return
        data = "".join(self.records).encode("utf-8", "surrogateescape")
        self.file.write(data)
        place_ = (len(self.shards), len(self.records), self.offset, len(data))
        self.shards.append(Shard(*place_, names_digest(self.names)))
        self.offset += len(data)
        self._begin()


def _file(name: str, size: str, version: str, sha256: str, by: str, cells: str) -> File:
    kept = Kept(json.loads(cells), sha256, int(by)) if cells else None
    return File(Entry(name, int(size), version), kept)


def names_digest(names: Iterable[str]) -> str:
    """The sha256 that tells these names, in this order, from all others."""
    return sha256_of("\0".join(names).encode("utf-8", "surrogateescape"))


def outside(entries: Iterable[Entry], folder: str | None) -> Iterator[Entry]:
    """The entries that do not lie in `folder`."""
    return (entry for entry in entries if not (folder and entry.name.startswith(f"{folder}/")))


def sort_key(entry: Entry) -> str:
    """What a listing is sorted by: the text of the whole name."""
    return text_of(entry.name)
