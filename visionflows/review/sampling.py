"""Review sampling: which rows of predictions.csv people should review, chosen in one pass."""

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from visionflows.hashing import sha256_of

AUDIT, OUTLIERS, UNCERTAIN = 100, 40, 60  # rows of each reason, at most
_SIZES = {"audit": AUDIT, "outlier": OUTLIERS, "uncertain": UNCERTAIN}
_ORDER = ("outlier", "uncertain", "audit")  # of the sampled rows
GUESSES = 5  # classes that are listed first for a row

Row = TypeVar("Row")


class SampledRow(NamedTuple):
    """A row to review: the reason, the network's label, and the most likely classes."""

    path: str
    label: str
    confidence: float
    why: str  # audit, outlier or uncertain
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
    at = {name: index for index, name in enumerate(next(lines))}
    probabilities = {name: at[f"p_{name}"] for name in classes}
    sizes = itertools.accumulate(_SIZES.values())  # rows of earlier reasons are left out later
    smallest = {why: Smallest[Sequence[str]](size) for why, size in zip(_SIZES, sizes, strict=True)}
    for cells in lines:
        path, status = cells[0], cells[1]
        random_key = int(sha256_of(f"{seed}:{path}".encode())[:16], 16)
        flags = {name: cells[at[name]] == "True" for name in ("outlier", "review") if name in at}
        if flags.get("outlier"):
            smallest["outlier"].add(random_key, path, cells)
        if status == "ok":
            smallest["audit"].add(random_key, path, cells)
            confidence = float(cells[3]) - flags.get("review", False)
            smallest["uncertain"].add(confidence, path, cells)
    taken: dict[str, SampledRow] = {}
    for why, most in _SIZES.items():
        free = [cells for cells in smallest[why].rows() if cells[0] not in taken]
        taken |= {cells[0]: _sampled(cells, why, probabilities) for cells in free[:most]}
    rows = sorted(taken.values(), key=lambda row: _ORDER.index(row.why))
    return Sample(seed, sum(row.why == "audit" for row in rows), rows)


def _sampled(cells: Sequence[str], why: str, columns: Mapping[str, int]) -> SampledRow:
    """A row to review; `columns` are those of the probabilities, by class."""
    probabilities = [(name, float(cells[at])) for name, at in columns.items() if cells[at]]
    guesses = heapq.nlargest(GUESSES, probabilities, key=lambda guess: guess[1])
    return SampledRow(cells[0], cells[2], float(cells[3] or 0), why, guesses)


class Smallest(Generic[Row]):
    """The rows with the smallest keys so far, at most `size`; their paths differ."""

    def __init__(self, size: int):
        self._size = size
        self._heap: list[tuple[float, str, Row]] = []  # the largest first

    def add(self, key: float, path: str, row: Row) -> None:
        item: Any = (-key, path, row)
        push = heapq.heappush if len(self._heap) < self._size else heapq.heappushpop
        push(self._heap, item)

    def rows(self) -> list[Row]:
        """The rows, smallest key first."""
        return [row for *_, row in sorted(self._heap, key=lambda item: (-item[0], item[1]))]
