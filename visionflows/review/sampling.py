"""Review sampling: which rows of predictions.csv people should review.

One pass keeps at most AUDIT, OUTLIERS and UNCERTAIN rows in memory.
"""

import heapq
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from visionflows.hashing import sha256_of

AUDIT, OUTLIERS, UNCERTAIN = 100, 40, 60  # rows of each reason, at most
GUESSES = 5  # classes that are listed first for a row

Why = Literal["audit", "outlier", "uncertain"]


class SampledRow(NamedTuple):
    """A row to review: the reason, the network's label, and the most likely classes."""

    path: str
    label: str
    confidence: float
    why: Why
    guesses: list[tuple[str, float]]


class Sample(NamedTuple):
    """The sampled rows and the seed; `audited` of them are the random ones."""

    seed: str
    audited: int
    rows: list[SampledRow]


def sample_rows(lines: Iterable[Sequence[str]], classes: Sequence[str], seed: str) -> Sample:
    """The rows to review, from the lines of a predictions.csv with its header.

    `audit` are the AUDIT labelled rows with the smallest sha256(seed, path): a simple random sample
    without replacement of all labelled rows (bottom-k sampling: E. Cohen and H. Kaplan, PODC 2007).
    `outlier` are rows with True in that column, in the same order. `uncertain` are those with True
    in the column `review`, then the least confident. No row is sampled twice.
    """
    lines = iter(lines)
    header = _Header(next(lines), classes)
    audit, outliers = _Smallest(AUDIT), _Smallest(OUTLIERS + AUDIT)
    uncertain = _Smallest(UNCERTAIN + OUTLIERS + AUDIT)
    for cells in lines:
        path, status = cells[0], cells[1]
        is_outlier = header.is_true(cells, "outlier")
        if status != "ok" and not is_outlier:
            continue
        random_key = int(sha256_of(f"{seed}:{path}".encode())[:16], 16)
        if is_outlier:
            outliers.add(random_key, path, cells)
        if status == "ok":
            audit.add(random_key, path, cells)
            uncertain.add(float(cells[3]) - header.is_true(cells, "review"), path, cells)
    taken: set[str] = set()
    rows = [header.row(cells, "audit") for cells in audit.take(taken, AUDIT)]
    outlier_rows = [header.row(cells, "outlier") for cells in outliers.take(taken, OUTLIERS)]
    least = [header.row(cells, "uncertain") for cells in uncertain.take(taken, UNCERTAIN)]
    return Sample(seed, len(rows), [*outlier_rows, *least, *rows])


class _Header:
    """The columns of a predictions.csv."""

    def __init__(self, names: Sequence[str], classes: Sequence[str]):
        self._at = {name: at for at, name in enumerate(names)}
        self._classes = [(name, self._at[f"p_{name}"]) for name in classes]

    def is_true(self, cells: Sequence[str], column: str) -> bool:
        at = self._at.get(column)
        return at is not None and cells[at] == "True"

    def row(self, cells: Sequence[str], why: Why) -> SampledRow:
        probabilities = [(name, float(cells[at])) for name, at in self._classes if cells[at]]
        guesses = heapq.nlargest(GUESSES, probabilities, key=lambda guess: guess[1])
        return SampledRow(cells[0], cells[2], float(cells[3] or 0), why, guesses)


class _Smallest:
    """The lines with the smallest keys so far."""

    def __init__(self, most: int):
        self._most = most
        self._heap: list[tuple[float, str, Sequence[str]]] = []  # the largest first; paths differ

    def add(self, key: float, path: str, cells: Sequence[str]) -> None:
        item: Any = (-key, path, cells)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, item)
        elif item > self._heap[0]:
            heapq.heappushpop(self._heap, item)

    def take(self, taken: set[str], most: int) -> list[Sequence[str]]:
        """The first `most` lines not in `taken`, smallest key first; they are added to it."""
        order = sorted(self._heap, key=lambda item: (-item[0], item[1]))
        found = [(path, cells) for _, path, cells in order if path not in taken][:most]
        taken.update(path for path, _ in found)
        return [cells for _, cells in found]
