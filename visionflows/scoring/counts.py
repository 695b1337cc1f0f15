"""The books of a scoring run: how many files were found, and what became of each.

    from visionflows.scoring.counts import Books
    books = Books()
    books.add(["1.jpg", "ok", "cat", "0.93", ""])
    books.counts().found                                       # 1

A part keeps its share in its record, and the whole is the sum of the parts.
"""

import collections
from collections.abc import Mapping

from pydantic import ValidationError

from visionflows.errors import RunError
from visionflows.images.image_status import SCORED_STATUSES, STATUSES
from visionflows.scoring.new_rows import NewRowsByRun
from visionflows.scoring.schema import HISTOGRAM_BINS, Counts, Record


class RunCounter:
    """How many files were found, and what became of each."""

    def __init__(self, flags: Mapping[str, int] | None = None) -> None:
        self._columns = flags or {}  # those that say True or False, and where they are
        self.flags = collections.Counter(dict.fromkeys(self._columns, 0))
        self.by_status: collections.Counter[str] = collections.Counter()
        self.by_label: collections.Counter[str] = collections.Counter()
        self.histogram = [0] * HISTOGRAM_BINS
        self.kept = 0
        self.gathered = NewRowsByRun()

    @property
    def found(self) -> int:
        return sum(self.by_status.values())

    @property
    def failed(self) -> int:
        return sum(self.by_status[status] for status in STATUSES if status not in SCORED_STATUSES)

    def add(self, cells: list[str], kept: bool = False) -> None:
        """Enter the row of a file."""
        _, status, label, confidence, *_ = cells
        self.by_status[status] += 1
        self.kept += kept
        if status == "ok":
            self.by_label[label] += 1
            bin_ = min(int(float(confidence) * HISTOGRAM_BINS), HISTOGRAM_BINS - 1)
            self.histogram[bin_] += 1
        if status in SCORED_STATUSES:
            self.flags.update(name for name, at in self._columns.items() if cells[at] == "True")

    def add_record(self, record: Record) -> None:
        """Enter a whole part."""
        self.by_status.update(record.counts.by_status)
        self.by_label.update(record.counts.by_label)
        self.flags.update(record.counts.flags)
        self.kept += record.counts.carried_over
        self.histogram = [a + b for a, b in zip(self.histogram, record.histogram, strict=True)]
        if record.fresh:
            self.gathered.add(record.fresh)

    def counts(self) -> Counts:
        """The books as they are written down. Raises RunError where they do not balance."""
        try:
            return Counts(
                found=self.found,
                ok=self.by_status["ok"],
                failed=self.failed,
                rejected=self.by_status["outlier"],
                carried_over=self.kept,
                by_status=dict(sorted(self.by_status.items())),  # type: ignore[arg-type]
                by_label=dict(sorted(self.by_label.items())),
                flags=dict(sorted(self.flags.items())),
            )
        except ValidationError as error:
            raise RunError(
                f"the books do not balance: {self.found} files found, {self.by_status['ok']} ok, "
                f"{self.by_status['outlier']} rejected and {self.failed} failed; nothing was "
                "published, please report this"
            ) from error
