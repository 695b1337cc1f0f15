"""Which rows of predictions.csv a person should look at: at random, outliers, the least certain.

    from visionflows.review.sampling import sample_of
    with open("scores/night/predictions.csv", newline="") as file:
        sample_of(csv.reader(file), classes, seed="4f1a…").rows

One pass in flat memory: of a million rows no more than AUDIT, OUTLIERS and UNCERTAIN are kept.
"""

import heapq
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from visionflows.hashing import sha256_of

AUDIT, OUTLIERS, UNCERTAIN = 100, 40, 60  # rows of each kind, at most
GUESSES = 5  # classes of a row that are shown first where there are many

Why = Literal["audit", "outlier", "uncertain"]


class Picked(NamedTuple):
    """A row to look at: why, what the network said, and its best guesses, the likeliest first."""

    path: str
    label: str
    confidence: float
    why: Why
    guesses: list[tuple[str, float]]


class Sample(NamedTuple):
    """The rows that were picked, and by which seed; `audited` of them are the random ones."""

    seed: str
    audited: int
    rows: list[Picked]


def sample_of(lines: Iterable[Sequence[str]], classes: Sequence[str], seed: str) -> Sample:
    """The rows to look at, of the lines of a predictions.csv with its header.

    `audit` are the AUDIT rows with a label whose sha256(seed, path) is smallest, in that order: a
    simple random sample without replacement of all rows with a label, whatever the network said
    of them (bottom-k sampling: E. Cohen and H. Kaplan, PODC 2007). A row is there once: what is
    audited is neither `outlier` (the column of that name says True; in the same order) nor
    `uncertain` (those whose column `review` says True, then the least confident).
    """
    lines = iter(lines)
    header = _Header(next(lines), classes)
    audit, outliers = _Least(AUDIT), _Least(OUTLIERS + AUDIT)
    uncertain = _Least(UNCERTAIN + OUTLIERS + AUDIT)
    for cells in lines:
        path, status = cells[0], cells[1]
        odd = header.says(cells, "outlier")
        if status != "ok" and not odd:
            continue
        lot = int(sha256_of(f"{seed}:{path}".encode())[:16], 16)
        if odd:
            outliers.add(lot, path, cells)
        if status == "ok":
            audit.add(lot, path, cells)
            sure = float(cells[3]) - header.says(cells, "review")
            uncertain.add(sure, path, cells)
    taken: set[str] = set()
    rows = [header.picked(cells, "audit") for cells in audit.new(taken, AUDIT)]
    odd_ones = [header.picked(cells, "outlier") for cells in outliers.new(taken, OUTLIERS)]
    least = [header.picked(cells, "uncertain") for cells in uncertain.new(taken, UNCERTAIN)]
    return Sample(seed, len(rows), [*odd_ones, *least, *rows])


class _Header:
    """Where the columns of a predictions.csv are."""

    def __init__(self, names: Sequence[str], classes: Sequence[str]):
        self._at = {name: at for at, name in enumerate(names)}
        self._classes = [(name, self._at[f"p_{name}"]) for name in classes]

    def says(self, cells: Sequence[str], column: str) -> bool:
        at = self._at.get(column)
        return at is not None and cells[at] == "True"

    def picked(self, cells: Sequence[str], why: Why) -> Picked:
        told = [(name, float(cells[at])) for name, at in self._classes if cells[at]]
        guesses = heapq.nlargest(GUESSES, told, key=lambda guess: guess[1])
        return Picked(cells[0], cells[2], float(cells[3] or 0), why, guesses)


class _Least:
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

    def new(self, taken: set[str], most: int) -> list[Sequence[str]]:
        """The first `most` that are not taken yet, and are from now on; smallest key first."""
        order = sorted(self._heap, key=lambda item: (-item[0], item[1]))
        found = [(path, cells) for _, path, cells in order if path not in taken][:most]
        taken.update(path for path, _ in found)
        return [cells for _, cells in found]
