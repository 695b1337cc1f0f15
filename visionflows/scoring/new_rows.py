"""What is new in a run: the rows computed for it, counted part by part, and not those taken over.

    news = NewRows(job.header)
    news.add(cells, size=48_213, sha256=mark.sha256)
    news.fresh(run)                                  # what the part's record keeps

Counts and one number a run are all that is kept of them, however many there are.
"""

import os
from collections.abc import Collection, Sequence

from visionflows.hashing import sha256_of
from visionflows.images.formats import IMAGE_SUFFIXES
from visionflows.monitoring.run_records import Counting, Fresh, Tally, twentieth

_SPACE = 1 << 256


class NewRows:
    """The new rows of a part."""

    def __init__(self, header: Sequence[str]):
        self._columns = {name: at for at, name in enumerate(header)}
        self._counting, self._contents = Counting(), 0

    def add(self, cells: Sequence[str], size: int | None, sha256: str) -> None:
        """Count a row; `size` is that of its file in bytes, if known."""
        path, status, label, confidence, *_ = cells
        self._counting.add(
            statuses=status,
            labels=label,
            confidence=twentieth(float(confidence)) if confidence else "",
            sizes="" if size is None else str(size.bit_length()),
            pixels=self._pixels(cells),
            endings=_ending(path),
            outliers=self._cell(cells, "outlier"),
        )
        # A sum: in whatever order they come and however they are cut into parts, it is the same.
        self._contents = (self._contents + _number(f"{path}\0{sha256}")) % _SPACE

    def fresh(self, run: str) -> Fresh:
        """What a part's record keeps of them."""
        return Fresh(run=run, contents=f"{self._contents:064x}", tally=self._counting.tally())

    def _cell(self, cells: Sequence[str], name: str) -> str:
        return cells[self._columns[name]] if name in self._columns else ""

    def _pixels(self, cells: Sequence[str]) -> str:
        width, height = (self._cell(cells, name) for name in ("width", "height"))
        return str((int(width) * int(height)).bit_length()) if width and height else ""


class NewRowsByRun:
    """The new rows of all parts of a run, by the run that has computed them."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Counting, int]] = {}

    def add(self, fresh: Fresh) -> None:
        """Count those of a part."""
        counting, contents = self._found.get(fresh.run, (Counting(), 0))
        counting.add_tally(fresh.tally)
        self._found[fresh.run] = counting, (contents + int(fresh.contents, 16)) % _SPACE

    @property
    def runs(self) -> list[str]:
        """The runs that have computed parts."""
        return sorted(self._found)

    def but_of(self, counted: Collection[str], model: str) -> tuple[Tally, str]:
        """All of them but those of runs that some record counts, and a digest of their files and
        the model's."""
        whole, contents = Counting(), 0
        for run, (counting, some) in self._found.items():
            if run not in counted:
                whole.add_tally(counting.tally())
                contents += some
        return whole.tally(), sha256_of(f"{model} {contents % _SPACE:064x}".encode())


def _number(text: str) -> int:
    return int(sha256_of(text.encode("utf-8", "surrogateescape")), 16)


def _ending(path: str) -> str:
    """The ending of a picture's name, where it is one that pictures have."""
    ending = os.path.splitext(path.rpartition("/")[2])[1].lower()
    return ending if ending in IMAGE_SUFFIXES else "other"
