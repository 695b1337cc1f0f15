"""Rows that need not be computed again: what earlier runs of the same model said of the same bytes.

    earlier = Earlier(place("out"), job)
    earlier.row(entry)                               # asked in the order of the listing

Earlier parts are read beside the new listing, both sorted, so that memory stays flat.
"""

import heapq
import itertools
import logging
from collections.abc import Iterator
from typing import NamedTuple

from visionflows.digest import sha256_of
from visionflows.places.base import LISTED, MISSING, Entry, Place
from visionflows.scoring.job import Job
from visionflows.scoring.listing import Kept, sort_key
from visionflows.scoring.schema import Record
from visionflows.scoring.shards import begun, rows_of

log = logging.getLogger("visionflows.carry")


class _Old(NamedTuple):
    path: str
    age: int  # 0 is the newest source
    entry: Entry
    kept: Kept


class Earlier:
    """The rows of earlier runs in an output place that would be this job's own, found by name.

    A row is taken over if the file has its size and version still; or, where only the version
    differs (a new time, the same bytes), if its sha256 is still the same. A row that says
    nothing of the bytes (the file was gone, or could not be read) is never taken over.
    """

    def __init__(self, output: Place, source: Place, job: Job):
        self.source, self.why_none, self.vanished, self.changed = source, None, 0, 0
        folders = [f"previous/{name}" for name in output.names("previous")]
        usable = []
        for folder in ("parts", *reversed(folders)):
            if plan := begun(output, folder):
                why = job.rows_hold(plan)
                self.why_none = self.why_none or why
                if why is None:
                    usable.append(folder)
        sources = (_rows(output, folder, age) for age, folder in enumerate(usable))
        merged = heapq.merge(*sources, key=lambda old: (old.path, old.age))
        newest = (next(same) for _, same in itertools.groupby(merged, key=lambda old: old.path))
        self._old, self._next = newest, next(newest, None)
        if usable:
            self.why_none = None

    def row(self, entry: Entry) -> Kept | None:
        """The row an earlier run wrote of this very content. Entries must come in order."""
        path = sort_key(entry)
        while self._next is not None and self._next.path < path:
            self.vanished += 1
            self._next = next(self._old, None)
        if self._next is None or self._next.path != path:
            return None
        old, self._next = self._next, next(self._old, None)
        if self._same(entry, old):
            return old.kept
        self.changed += 1
        return None

    def end(self) -> None:
        """Count what is left as vanished, and say what there was."""
        while self._next is not None:
            self.vanished += 1
            self._next = next(self._old, None)
        if self.why_none:
            log.info("nothing is taken over: %s, so all files are scored", self.why_none)

    def _same(self, entry: Entry, old: _Old) -> bool:
        if not old.kept.sha256 or entry.size != old.entry.size:
            return False
        if entry.version == old.entry.version and entry.version not in (LISTED, MISSING):
            return True
        try:
            content = self.source.read(entry.name)
        except OSError:
            return False  # it is scored, and its row will say what is wrong with it
        return sha256_of(content) == old.kept.sha256


def _rows(output: Place, folder: str, age: int) -> Iterator[_Old]:
    """The rows of the whole parts in a folder, in order, with what they were computed from."""
    for name in output.names(folder):
        part = f"{folder}/{name.removesuffix('.json')}"
        if not name.startswith("part-") or not name.endswith(".json"):
            continue
        data, marks = output.read(f"{part}.csv"), output.read(f"{part}.files")
        record = Record.read(output.read(f"{part}.json"))
        if sha256_of(data) != record.sha256:
            continue  # cut or changed since: its files are scored again
        fields = marks.decode("utf-8", "surrogateescape").split("\0")
        for at, cells in enumerate(rows_of(data)):
            name_, size, version, sha256 = fields[4 * at : 4 * at + 4]
            entry = Entry(name_, int(size), version)
            yield _Old(cells[0], age, entry, Kept(cells, sha256))
