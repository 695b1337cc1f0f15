"""Statistics of the rows that are new in a run, without the rows it reused.

A run keeps counts and one number of them, so that memory does not grow with its files.
"""

import os
from collections.abc import Collection, Sequence

from visionflows.hashing import sha256_of
from visionflows.images.formats import IMAGE_SUFFIXES
from visionflows.monitoring.run_records import (
    HistogramCounter,
    Histograms,
    NewRowCounts,
    confidence_bin,
)

_MODULUS = 1 << 256


class NewRows:
    """The new rows of a part."""

    def __init__(self, header: Sequence[str]):
        self._columns = {name: index for index, name in enumerate(header)}
        self._counting, self._contents = HistogramCounter(), 0

    def add(self, cells: Sequence[str], size: int | None, sha256: str) -> None:
        """Count a row; `size` is the size of its file in bytes, if known."""
        path, status, label, confidence, *_ = cells
        self._counting.add(
            statuses=status,
            labels=label,
            confidence=confidence_bin(float(confidence)) if confidence else "",
            sizes="" if size is None else str(size.bit_length()),
            pixels=self._pixels(cells),
            endings=_image_ending(path),
            outliers=self._cell(cells, "outlier"),
        )
        # A sum does not depend on the order of rows, nor on how they are cut into parts.
        self._contents = (self._contents + _as_number(f"{path}\0{sha256}")) % _MODULUS

    def summary(self, run: str) -> NewRowCounts:
        """The statistics as the record of a part keeps them; `run` is the run that scored them."""
        return NewRowCounts(
            run=run, contents=f"{self._contents:064x}", histograms=self._counting.histograms()
        )

    def _cell(self, cells: Sequence[str], name: str) -> str:
        return cells[self._columns[name]] if name in self._columns else ""

    def _pixels(self, cells: Sequence[str]) -> str:
        width, height = (self._cell(cells, name) for name in ("width", "height"))
        return str((int(width) * int(height)).bit_length()) if width and height else ""


class NewRowsByRun:
    """The new rows of all parts, by the run that scored them."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[HistogramCounter, int]] = {}

    def add(self, new_rows: NewRowCounts) -> None:
        """Count the new rows of a part."""
        counting, contents = self._found.get(new_rows.run, (HistogramCounter(), 0))
        counting.add_all(new_rows.histograms)
        self._found[new_rows.run] = counting, (contents + int(new_rows.contents, 16)) % _MODULUS

    @property
    def runs(self) -> list[str]:
        """The runs that scored parts."""
        return sorted(self._found)

    def excluding(self, recorded: Collection[str], model: str) -> tuple[Histograms, str]:
        """The histograms of unrecorded runs, and a digest of their files and model.

        `recorded` are the runs that some record counts.
        """
        total, contents = HistogramCounter(), 0
        for run, (counting, run_contents) in self._found.items():
            if run not in recorded:
                total.add_all(counting.histograms())
                contents += run_contents
        return total.histograms(), sha256_of(f"{model} {contents % _MODULUS:064x}".encode())


def _as_number(text: str) -> int:
    return int(sha256_of(text.encode("utf-8", "surrogateescape")), 16)


def _image_ending(path: str) -> str:
    ending = os.path.splitext(path.rpartition("/")[2])[1].lower()
    return ending if ending in IMAGE_SUFFIXES else "other"
