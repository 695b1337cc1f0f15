"""Counts of a part or a run: how many files were found, and the status of each."""

import collections
from collections.abc import Mapping

from visionflows.images.image_status import SCORED_STATUSES
from visionflows.monitoring.run_records import NewRowCounts
from visionflows.scoring.new_rows import combine
from visionflows.scoring.schema import HISTOGRAM_BINS, Counts, PartRecord


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
            bin_ = min(int(float(confidence) * HISTOGRAM_BINS), HISTOGRAM_BINS - 1)
            self.histogram[bin_] += 1
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
            self.new_rows[new.run] = combine([known, new], new.run) if known else new

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
