"""Concurrent work by threads, such as requests, with results in order."""

import collections
import concurrent.futures
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@functools.cache
def threads(count: int) -> concurrent.futures.ThreadPoolExecutor:
    """The pool of so many threads; one for each process and count."""
    return concurrent.futures.ThreadPoolExecutor(count, "visionflows-prefetch")


os.register_at_fork(after_in_child=threads.cache_clear)  # a child has none of its parent's


def prefetch(
    work: Callable[[Item], Result], items: Iterable[Item], count: int, in_flight: int = 0
) -> Iterator[Result]:
    """The result of `work` for each item, in order; `count` threads begin at once.

    At most `in_flight` items are begun ahead, by default as many as there are threads.
    """
    remaining, pool = iter(items), threads(count)
    first = itertools.islice(remaining, in_flight or count)
    pending = collections.deque(pool.submit(work, item) for item in first)

    def results() -> Iterator[Result]:
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(work, item) for item in itertools.islice(remaining, 1))
                yield result
        finally:
            for future in pending:
                future.cancel()

    return results()


def run_all(work: Callable[[Item], object], items: Iterable[Item], count: int) -> None:
    """Do `work` for each item with `count` threads, and wait for all."""
    for _ in prefetch(work, items, count):
        pass
