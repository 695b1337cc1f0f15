"""Rows of earlier runs that --only-new and --retry-failed reuse instead of scoring again."""

import heapq
import itertools
import logging
import re
from collections.abc import Iterator
from typing import NamedTuple

from visionflows.hashing import sha256_of
from visionflows.images.image_status import SCORED_STATUSES
from visionflows.inference.engine import Backend
from visionflows.scoring import parts
from visionflows.scoring.columns import csv_rows
from visionflows.scoring.job import Job
from visionflows.scoring.listing import File, ReusedRow
from visionflows.scoring.result import read_plan
from visionflows.storage.base import MISSING, Entry, Storage
from visionflows.storage.name_encoding import encode_name

log = logging.getLogger("visionflows.scoring")


class _EarlierRow(NamedTuple):
    path: str
    age: int  # 0 is the newest run
    file: parts.ScoredFile
    row: ReusedRow
    same_input: bool  # only then does the version of a file identify its content


class ReusableRows:
    """The rows of earlier runs that this job would write as well, read beside the new listing.

    Their backends are appended to `backends`, which begins with this run's.
    """

    def __init__(self, output: Storage, source: Storage, job: Job, backends: list[Backend]):
        self.source, self.job, self.backends = source, job, backends
        self.vanished = self.changed = 0
        usable, self._difference = self._usable_plans(output)
        runs = (self._read_rows(output, *run, age) for age, run in enumerate(usable))
        merged = heapq.merge(*runs, key=lambda row: (row.path, row.age))
        self._rows = (next(same) for _, same in itertools.groupby(merged, key=lambda row: row.path))
        self._next = next(self._rows, None)

    def find(self, entry: Entry) -> File:
        """A file, with its reused row if an earlier run scored the same content."""
        earlier = self._earlier_row(encode_name(entry.name))
        if earlier is None:
            return File(entry)
        row = earlier.row
        backend, current = self.backends[row.backend], self.backends[0]
        of_bytes = parts.depends_on_bytes(row.cells, earlier.file, backend, current)
        if of_bytes and self._is_unchanged(entry, earlier):
            return File(entry, row)
        self.changed += 1
        return File(entry, last_failure="" if of_bytes else row.cells[1])

    def find_to_retry(self, entry: Entry) -> File:
        """A file of a finished result: with its row if it was scored, without it if it failed."""
        earlier = self._earlier_row(encode_name(entry.name))
        if earlier is None or earlier.row.cells[1] not in SCORED_STATUSES:
            return File(entry)
        return File(Entry(*earlier.file[:3]), earlier.row) if earlier.file.sha256 else File(entry)

    def end(self) -> None:
        """Count the remaining rows as vanished, and log why no rows are reused."""
        while self._next is not None:
            self._skip()
        if self._difference:
            log.info("no rows are reused: %s, so all files are scored", self._difference)

    def _usable_plans(self, output: Storage) -> tuple[list[tuple[str, Job]], str | None]:
        """The folders with rows of this job, newest first; if there are none, why."""
        names = reversed([f"previous/{name}" for name in output.names("previous")])
        plans = [(folder, read_plan(output, folder)) for folder in ("parts", *names)]
        found = [(folder, plan, self.job.row_difference(plan)) for folder, plan in plans if plan]
        usable = [(folder, plan) for folder, plan, difference in found if difference is None]
        return usable, None if usable or not found else found[0][2]

    def _earlier_row(self, path: str) -> _EarlierRow | None:
        """The row of a path; files that sort before it have vanished."""
        while self._next is not None and self._next.path < path:
            self._skip()
        if self._next is None or self._next.path != path:
            return None
        row, self._next = self._next, next(self._rows, None)
        return row

    def _skip(self) -> None:
        self.vanished += 1
        self._next = next(self._rows, None)

    def _is_unchanged(self, entry: Entry, row: _EarlierRow) -> bool:
        """Whether size and version are the same, or the SHA-256 if they do not decide."""
        if row.same_input and parts.same_version(entry, row.file) and entry.version != MISSING:
            return True
        if parts.other_size(entry, row.file):
            return False
        try:
            content = self.source.read(entry.name)
        except OSError:
            return False  # it is scored, and its row has the error
        return sha256_of(content) == row.file.sha256

    def _read_rows(
        self, output: Storage, folder: str, plan: Job, age: int
    ) -> Iterator[_EarlierRow]:
        """The rows of the complete parts in a folder, in order."""
        same_input = plan.input == self.job.input
        names = [name for name in output.names(folder) if re.fullmatch(r"part-.*\.json", name)]
        last = ""
        for part in parts.read_parts(output, (f"{folder}/{name[:-5]}" for name in names)):
            if (
                part is None
                or part.record.job != plan.row_digest
                or not parts.belongs_to(part, self.job)
            ):
                continue
            # Names of two runs may overlap if the first one died while it listed its input.
            if part.files and encode_name(part.files[0].name) <= last:
                continue
            last = encode_name(part.files[-1].name) if part.files else last
            backends = part.record.backends
            self.backends += [backend for backend in backends if backend not in self.backends]
            indices = [self.backends.index(backend) for backend in backends]
            for cells, file in zip(csv_rows(part.data), part.files, strict=True):
                row = ReusedRow(cells, file.sha256, indices[file.backend])
                yield _EarlierRow(cells[0], age, file, row, same_input)
