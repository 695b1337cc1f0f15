"""Rows of earlier runs that --only-new and --retry-failed reuse instead of scoring again."""

import heapq
import itertools
import logging
import re
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any, NamedTuple

from visionflows.images.image_status import SCORED_STATUSES
from visionflows.inference.engine import Backend
from visionflows.scoring import parts
from visionflows.scoring.columns import csv_line, csv_rows
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
    cells: list[str]
    backend: int  # an index of all backends
    same_input: bool  # only then does the version of a file identify its content

    def row(self) -> ReusedRow:
        return ReusedRow(csv_line(self.cells).decode(), self.file.sha256, self.backend)


class ReusableRows:
    """The rows of earlier runs that this job would write as well, read beside the new listing.

    Their backends are appended to `backends`, which begins with this run's.
    """

    def __init__(self, output: Storage, source: Storage, job: Job, backends: list[Backend]):
        self.source, self.job, self.backends = source, job, backends
        self.vanished = self.changed = 0
        usable, self._difference = self._usable_plans(output)
        self._runs = [self._read_rows(output, *run, age) for age, run in enumerate(usable)]

    def find(self, entries: Iterable[Entry]) -> Iterator[File]:
        """The files, each with its reused row if an earlier run scored the same content."""
        for entry, earlier in self._pairs(entries):
            yield self._reuse(entry, earlier) if earlier else File(entry)
        if self._difference:
            log.info("no rows are reused: %s, so all files are scored", self._difference)

    def find_to_retry(self, entries: Iterable[Entry]) -> Iterator[File]:
        """Files of a finished result: with their rows if scored, without them if they failed."""
        for entry, earlier in self._pairs(entries):
            if earlier and earlier.cells[1] in SCORED_STATUSES and earlier.file.sha256:
                yield File(Entry(*earlier.file[:3]), earlier.row())
            else:
                yield File(entry)

    def _reuse(self, entry: Entry, earlier: _EarlierRow) -> File:
        """A file, with its earlier row if that is of the same content."""
        backend, current = self.backends[earlier.backend], self.backends[0]
        of_bytes = parts.depends_on_bytes(earlier.cells, earlier.file, backend, current)
        if of_bytes and self._is_unchanged(entry, earlier):
            return File(entry, earlier.row())
        self.changed += 1
        return File(entry, last_failure="" if of_bytes else earlier.cells[1])

    def _pairs(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, _EarlierRow | None]]:
        """Sorted files, each with the newest earlier row of its path; other rows vanished."""
        files = ((encode_name(entry.name), -1, entry) for entry in entries)
        merged: Iterator[Any] = heapq.merge(files, *self._runs, key=itemgetter(0, 1))
        for _, same_path in itertools.groupby(merged, key=itemgetter(0)):
            first, *rows = same_path
            if isinstance(first, _EarlierRow):
                self.vanished += 1
            else:
                yield first[2], next(iter(rows), None)

    def _usable_plans(self, output: Storage) -> tuple[list[tuple[str, Job]], str | None]:
        """The folders with rows of this job, newest first; if there are none, why."""
        names = reversed([f"previous/{name}" for name in output.names("previous")])
        plans = [(folder, read_plan(output, folder)) for folder in ("parts", *names)]
        found = [(folder, plan, self.job.row_difference(plan)) for folder, plan in plans if plan]
        usable = [(folder, plan) for folder, plan, difference in found if difference is None]
        return usable, None if usable or not found else found[0][2]

    def _is_unchanged(self, entry: Entry, row: _EarlierRow) -> bool:
        """Whether size and version are the same, or the SHA-256 if they do not decide."""
        if row.same_input and parts.same_version(entry, row.file) and entry.version != MISSING:
            return True
        if parts.other_size(entry, row.file):
            return False
        return parts.has_content(self.source, [(entry, row.file)])

    def _read_rows(
        self, output: Storage, folder: str, plan: Job, age: int
    ) -> Iterator[_EarlierRow]:
        """The rows of the complete parts in a folder, in order."""
        same_input = plan.input == self.job.input
        found = (re.fullmatch(r"part-(\d+)\.json", name) for name in output.names(folder))
        numbers = sorted((int(name[1]), name[0][:-5]) for name in found if name)
        last = ""
        for part in parts.read_parts(output, (f"{folder}/{name}" for _, name in numbers)):
            if part is None or part.record.job != plan.row_digest:
                continue
            # Names of two runs may overlap if the first one died while it listed its input.
            overlaps = part.files and encode_name(part.files[0].name) <= last
            if overlaps or not parts.belongs_to(part, self.job):
                continue
            last = encode_name(part.files[-1].name) if part.files else last
            backends = part.record.backends
            self.backends += [backend for backend in backends if backend not in self.backends]
            indices = [self.backends.index(backend) for backend in backends]
            for cells, file in zip(csv_rows(part.data), part.files, strict=True):
                yield _EarlierRow(cells[0], age, file, cells, indices[file.backend], same_input)
