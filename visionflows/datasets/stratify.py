"""Iterative stratification: parts of a dataset with the same share of every class.

Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", 2011.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

IMAGES = ""  # counted like a class, but placed last


def stratify(
    units: Sequence[Counter[str]], shares: Sequence[float], first: Iterable[int] = ()
) -> list[int]:
    """The part of each unit, which is an image or several that stay together.

    A unit counts the images of each class in it, and all of them as `IMAGES`. The class with the
    fewest images left is placed next, in the order of the units, each where most of its class is
    wanted. Every part wants an image of each class, and the first part (training) gets one. The
    units at the positions `first` are in the first part.
    """
    placing = _Placing(units, shares)
    for at in first:
        placing.place(at, 0)
    of_class: dict[str, list[int]] = defaultdict(list)
    for at, unit in enumerate(units):
        for name in unit:
            of_class[name].append(at)
    while placing.waiting:
        _, count, name = heapq.heappop(placing.waiting)
        if placing.left[name] == count:
            for at in of_class[name]:
                if placing.parts[at] < 0:
                    placing.place(at, placing.choose(at, name))
    return placing.parts


class _Placing:
    """The parts of the units so far, and what each part still wants."""

    def __init__(self, units: Sequence[Counter[str]], shares: Sequence[float]):
        self.units, self.parts = units, [-1] * len(units)
        self.left: Counter[str] = Counter()  # images of each class without a part
        for unit in units:
            self.left.update(unit)
        self.wanted = [
            {name: max(share * n, 1.0) for name, n in self.left.items()} for share in shares
        ]
        self.in_first: Counter[str] = Counter()
        self.waiting = [(name == IMAGES, n, name) for name, n in self.left.items()]
        heapq.heapify(self.waiting)

    def choose(self, at: int, name: str) -> int:
        """The part that wants most of a class, then of all images."""
        unit = self.units[at]
        if any(self.in_first[one] + self.left[one] <= n for one, n in unit.items()):
            return 0
        wanted = [(each[name], each[IMAGES], -part) for part, each in enumerate(self.wanted)]
        return -max(wanted)[2]

    def place(self, at: int, part: int) -> None:
        self.parts[at] = part
        for name, n in self.units[at].items():
            self.left[name] -= n
            self.wanted[part][name] -= n
            self.in_first[name] += n if part == 0 else 0
            if self.left[name]:
                heapq.heappush(self.waiting, (name == IMAGES, self.left[name], name))
