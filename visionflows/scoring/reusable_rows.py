"""Rows that need not be computed again: what earlier runs of the same model said of the same bytes.

    earlier = Earlier(place("out"), place("inbox"), job, [backend])
    earlier.file(entry)                              # asked in the order of the listing

Earlier parts are read beside the new listing, both sorted, so that memory stays flat.
"""

import heapq
import itertools
import logging
from collections.abc import Iterator
from typing import NamedTuple

from visionflows.hashing import sha256_of
from visionflows.images.image_status import SCORED_STATUSES
from visionflows.inference.backend import Backend
from visionflows.scoring.input_source import same_input
from visionflows.scoring.job import Job, digests_of
from visionflows.scoring.listing import File, Kept, sort_key
from visionflows.scoring.parts import (
    Mark,
    Whole,
    is_of,
    other_size,
    read_parts,
    rows_of,
    same_version,
    says_of_bytes,
)
from visionflows.scoring.schema import Plan
from visionflows.scoring.shards import begun
from visionflows.storage.base import MISSING, Entry, Storage
from visionflows.storage.name_encoding import encode_name

log = logging.getLogger("visionflows.carry")

# What a part of the version before did not say.
UNKNOWN = Backend(device="not recorded", precision="", kernel="", versions={})


class _Old(NamedTuple):
    path: str
    age: int  # 0 is the newest source
    mark: Mark
    kept: Kept
    trusted: bool  # a version says something: the row is of a file of the same input


class ReusableRows:
    """The rows of earlier runs in an output place that would be this job's own, found by name.

    A row is taken over if the file has its size and version still; or, where these say too little
    (a new time, another input), if its sha256 is the same. Only rows with a label are, and
    refusals by the same decoder: one that says nothing of the bytes (the file was gone, could not
    be brought, or memory was short) is never taken over.

    `backends` has the backend of this run; those of reused rows are added to it.
    """

    def __init__(self, output: Storage, source: Storage, job: Job, backends: list[Backend]):
        self.source, self.job, self.backends = source, job, backends
        self.why_none: str | None = None
        self.vanished = self.changed = 0
        folders = [f"previous/{name}" for name in output.names("previous")]
        usable: list[tuple[str, Plan]] = []
        for folder in ("parts", *reversed(folders)):
            if plan := begun(output, folder):
                why = job.rows_hold(plan)
                self.why_none = self.why_none or why
                if why is None:
                    usable.append((folder, plan))
        sources = (self._rows(output, *one, age) for age, one in enumerate(usable))
        merged = heapq.merge(*sources, key=lambda old: (old.path, old.age))
        newest = (next(same) for _, same in itertools.groupby(merged, key=lambda old: old.path))
        self._old, self._next = newest, next(newest, None)
        if usable:
            self.why_none = None

    def file(self, entry: Entry) -> File:
        """A file, with the row an earlier run wrote of this very content; entries come in order."""
        old = self._of(sort_key(entry))
        if old is None:
            return File(entry)
        of_bytes = says_of_bytes(
            old.kept.cells, old.mark, self.backends[old.kept.by], self.backends[0]
        )
        if of_bytes and self._same(entry, old):
            return File(entry, old.kept)
        self.changed += 1
        return File(entry, failed="" if of_bytes else old.kept.cells[1])

    def as_it_was(self, entry: Entry) -> File:
        """A file as it was, with its row, where the network saw it; else to be scored."""
        old = self._of(sort_key(entry))
        if old is None or old.kept.cells[1] not in SCORED_STATUSES or not old.mark.sha256:
            return File(entry)
        return File(Entry(*old.mark[:3]), old.kept)

    def end(self) -> None:
        """Count what is left as vanished, and say what there was."""
        while self._next is not None:
            self.vanished += 1
            self._next = next(self._old, None)
        if self.why_none:
            log.info("nothing is taken over: %s, so all files are scored", self.why_none)

    def _of(self, path: str) -> _Old | None:
        """What there is of a path; what comes before it in the order has vanished."""
        while self._next is not None and self._next.path < path:
            self.vanished += 1
            self._next = next(self._old, None)
        if self._next is None or self._next.path != path:
            return None
        old, self._next = self._next, next(self._old, None)
        return old

    def _same(self, entry: Entry, old: _Old) -> bool:
        if old.trusted and same_version(entry, old.mark) and entry.version != MISSING:
            return True
        if other_size(entry, old.mark):
            return False
        try:
            content = self.source.read(entry.name)
        except OSError:
            return False  # it is scored, and its row will say what is wrong with it
        return sha256_of(content) == old.mark.sha256

    def _rows(self, output: Storage, folder: str, plan: Plan, age: int) -> Iterator[_Old]:
        """The rows of the whole parts in a folder, in order, with what they were computed from."""
        digests = digests_of(plan)
        trusted = plan.schema_version == Plan.VERSION and same_input(plan.input, self.job.input)
        names = (name.removesuffix(".json") for name in output.names(folder) if _is_record(name))
        last = ""
        for whole in read_parts(output, [f"{folder}/{name}" for name in names]):
            # One that is cut or changed since, or of another job: its files are scored again.
            if whole is None or whole.record.job not in digests or not is_of(whole, self.job):
                continue
            # Of a run that died while it listed, and another after it: names may overlap.
            if whole.marks and encode_name(whole.marks[0].name) <= last:
                continue
            last = encode_name(whole.marks[-1].name) if whole.marks else last
            by = [self._backend_index(backend) for backend in _backends_of(whole)]
            for cells, mark in zip(rows_of(whole.data), whole.marks, strict=True):
                kept = Kept(cells, mark.sha256, by[mark.by])
                yield _Old(cells[0], age, mark, kept, trusted)

    def _backend_index(self, backend: Backend) -> int:
        if backend not in self.backends:
            self.backends.append(backend)
        return self.backends.index(backend)


def _backends_of(whole: Whole) -> tuple[Backend, ...]:
    return whole.record.backends or (UNKNOWN,)


def _is_record(name: str) -> bool:
    return name.startswith("part-") and name.endswith(".json")
