"""Statistics of the rows that are new in a run, in memory that does not grow with its files."""

import os
from collections.abc import Iterable, Sequence

from visionflows.hashing import sha256_of
from visionflows.images.formats import IMAGE_SUFFIXES
from visionflows.monitoring import run_records

_MODULUS = 1 << 256


class NewRows:
    """The new rows of a part."""

    def __init__(self, header: Sequence[str]):
        names = ("outlier", "width", "height")
        self._indices = [header.index(name) if name in header else None for name in names]
        self._counting, self._contents = run_records.HistogramCounter(), 0

    def add(self, cells: Sequence[str], size: int | None, sha256: str) -> None:
        """Count a row; `size` is the size of its file in bytes, if known."""
        path, status, label, confidence, *_ = cells
        ending = os.path.splitext(path)[1].lower()
        outlier, width, height = ("" if at is None else cells[at] for at in self._indices)
        self._counting.add(
            statuses=status,
            labels=label,
            confidence=run_records.confidence_bin(float(confidence)) if confidence else "",
            sizes="" if size is None else str(size.bit_length()),
            pixels=str((int(width) * int(height)).bit_length()) if width and height else "",
            endings=ending if ending in IMAGE_SUFFIXES else "other",
            outliers=outlier,
        )
        digest = sha256_of(f"{path}\0{sha256}".encode("utf-8", "surrogateescape"))
        # A sum does not depend on the order of rows, nor on how they are cut into parts.
        self._contents = (self._contents + int(digest, 16)) % _MODULUS

    def summary(self, run: str) -> run_records.NewRowCounts:
        """The statistics as the record of a part keeps them; `run` is the run that scored them."""
        return run_records.NewRowCounts(
            run=run, contents=f"{self._contents:064x}", histograms=self._counting.histograms()
        )


def combine(several: Iterable[run_records.NewRowCounts], run: str) -> run_records.NewRowCounts:
    """The statistics of several parts, or of several runs, as those of one run."""
    total, contents = run_records.HistogramCounter(), 0
    for new_rows in several:
        total.add_all(new_rows.histograms)
        contents += int(new_rows.contents, 16)
    return run_records.NewRowCounts(
        run=run, contents=f"{contents % _MODULUS:064x}", histograms=total.histograms()
    )
