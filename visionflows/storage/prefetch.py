"""Work done ahead by threads, such as requests to a network: many are under way at once.

from visionflows.storage.prefetch import ahead
for data in ahead(fetch, names, 32): ...
"""

import collections
import concurrent.futures
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


@functools.cache
def threads(count: int) -> concurrent.futures.ThreadPoolExecutor:
    """So many threads, one set a process."""
    return concurrent.futures.ThreadPoolExecutor(count, "visionflows-ahead")


os.register_at_fork(after_in_child=threads.cache_clear)  # a child has none of its parent's


def prefetch(
    work: Callable[[Item], Made], items: Iterable[Item], count: int, most: int = 0
) -> Iterator[Made]:
    """What `work` makes of each item, in order, by `count` threads, from now on.

    `most` are under way at once, or as many as there are threads.
    """
    left, pool = iter(items), threads(count)
    some = itertools.islice(left, most or count)
    coming = collections.deque(pool.submit(work, item) for item in some)

    def arriving() -> Iterator[Made]:
        try:
            while coming:
                made = coming.popleft().result()
                coming.extend(pool.submit(work, item) for item in itertools.islice(left, 1))
                yield made
        finally:
            for future in coming:
                future.cancel()

    return arriving()


def run_all(work: Callable[[Item], object], items: Iterable[Item], count: int) -> None:
    """Do `work` for each item by `count` threads, and be back when all is done."""
    for _ in prefetch(work, items, count):
        pass
