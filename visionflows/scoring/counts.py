"""Counts of a part or a run: the status of each file, and statistics of the new rows."""

import collections
import os
from collections.abc import Iterable, Mapping, Sequence

from visionflows.hashing import sha256_of
from visionflows.images.formats import IMAGE_SUFFIXES
from visionflows.images.image_status import SCORED_STATUSES
from visionflows.monitoring.run_records import Histograms, NewRowCounts, confidence_bin
from visionflows.scoring.schema import HISTOGRAM_BINS, Counts, PartRecord

_MODULUS = 1 << 256


class RunCounter:
    """Counts rows, or the records of parts; `flags` are the indices of columns that are flags."""

    def __init__(self, flags: Mapping[str, int] | None = None) -> None:
        self._columns = flags or {}
        self.flags = collections.Counter(dict.fromkeys(self._columns, 0))
        self.by_status: collections.Counter[str] = collections.Counter()
        self.by_label: collections.Counter[str] = collections.Counter()
        self.histogram = [0] * HISTOGRAM_BINS
        self.reused = 0
        self.new_rows: dict[str, NewRowCounts] = {}  # by the run that scored them

    def add(self, cells: list[str], reused: bool = False) -> None:
        """Count the row of a file."""
        _, status, label, confidence, *_ = cells
        self.by_status[status] += 1
        self.reused += reused
        if status == "ok":
            self.by_label[label] += 1
            self.histogram[int(confidence_bin(float(confidence)))] += 1
        if status in SCORED_STATUSES:
            self.flags.update(name for name, at in self._columns.items() if cells[at] == "True")

    def add_record(self, record: PartRecord) -> None:
        """Count a part."""
        self.by_status.update(record.counts.by_status)
        self.by_label.update(record.counts.by_label)
        self.flags.update(record.counts.flags)
        self.reused += record.counts.reused
        self.histogram = [a + b for a, b in zip(self.histogram, record.histogram, strict=True)]
        if new := record.new_rows:
            known = self.new_rows.get(new.run)
            self.new_rows[new.run] = NewRows.combine([known, new], new.run) if known else new

    def counts(self) -> Counts:
        """The counts of all that was added."""
        found = self.by_status.total()
        ok, rejected = self.by_status["ok"], self.by_status["outlier"]
        return Counts(
            found=found,
            ok=ok,
            failed=found - ok - rejected,
            rejected=rejected,
            reused=self.reused,
            by_status=dict(sorted(self.by_status.items())),  # type: ignore[arg-type]
            by_label=dict(sorted(self.by_label.items())),
            flags=dict(sorted(self.flags.items())),
        )


class NewRows:
    """Statistics of rows that are new in a run, in memory that does not grow with its files."""

    def __init__(self, header: Sequence[str] = ()):
        names = ("outlier", "width", "height")
        self._indices = [header.index(name) if name in header else None for name in names]
        self._counters = {name: collections.Counter[str]() for name in Histograms.model_fields}
        self._contents = 0

    def add(self, cells: Sequence[str], size: int | None, sha256: str) -> None:
        """Count a row; `size` is the size of its file in bytes, if known."""
        path, status, label, confidence, *_ = cells
        ending = os.path.splitext(path)[1].lower()
        outlier, width, height = ("" if at is None else cells[at] for at in self._indices)
        values = {
            "statuses": status,
            "labels": label,
            "confidence": confidence_bin(float(confidence)) if confidence else "",
            "sizes": "" if size is None else str(size.bit_length()),
            "pixels": str((int(width) * int(height)).bit_length()) if width and height else "",
            "endings": ending if ending in IMAGE_SUFFIXES else "other",
            "outliers": outlier,
        }
        for name in filter(values.get, values):  # an empty value is unknown
            self._counters[name][values[name]] += 1
        if status == "ok" and not label:  # of several labels, it has none
            self._counters["labels"][""] += 1
        digest = sha256_of(f"{path}\0{sha256}".encode("utf-8", "surrogateescape"))
        # A sum does not depend on the order of rows, nor on how they are cut into parts.
        self._contents += int(digest, 16)

    def summary(self, run: str) -> NewRowCounts:
        """The statistics as the record of a part keeps them; `run` is the run that scored them."""
        counts = {name: dict(sorted(of.items())) for name, of in self._counters.items()}
        contents = f"{self._contents % _MODULUS:064x}"
        return NewRowCounts(run=run, contents=contents, histograms=Histograms(**counts))

    @classmethod
    def combine(cls, several: Iterable[NewRowCounts], run: str) -> NewRowCounts:
        """The statistics of several parts, or of several runs, as those of one run."""
        total = cls()
        for one in several:
            total._contents += int(one.contents, 16)
            for name, counts in one.histograms:
                total._counters[name].update(counts)
        return total.summary(run)
