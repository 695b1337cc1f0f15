"""Fuzzing of our files: mutated documents, and a check that nothing outside changes.

    VISIONFLOWS_TEST_FUZZ=600 pytest tests/fuzz        # seconds, shared by the tests

Real files are mutated: values, keys, bytes. In the normal test suite this takes a few seconds.
"""

import contextlib
import copy
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from visionflows.errors import VisionflowsError

SECONDS, TESTS = float(os.environ.get("VISIONFLOWS_TEST_FUZZ", "0")), 8
EXAMPLES = 500 if SECONDS else 60
HOSTILE = [
    "",
    ".",
    "..",
    "../x",
    "a/../../x",
    "/etc/x",
    "a//b",
    "a\0b",
    "a\nb",
    "\u202e",
    "x" * 5000,
]
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20))
NUMBERS = st.one_of(st.integers(), st.integers(-2, 2), st.floats(), st.just(10**400))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS, lambda some: st.lists(some, max_size=3) | st.dictionaries(TEXTS, some, max_size=3)
)


def fuzz(test: Callable[[], None]) -> None:
    """Run a test with some examples, and then with others for its share of the time."""
    quick = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )(test)
    until = time.monotonic() + SECONDS / TESTS
    quick()
    while time.monotonic() < until:
        quick()


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """The block succeeds or raises a VisionflowsError of one line."""
    try:
        yield
    except VisionflowsError as error:
        if "\n" in str(error):
            raise ValueError("not one line") from error


def _spots(node, way=()) -> Iterator[tuple]:
    """The paths to all values of a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*way, key)
        if isinstance(value, dict | list):
            yield from _spots(value, (*way, key))


@st.composite
def documents(draw, real: dict) -> bytes:
    """A JSON document with a few changed values or bytes."""
    document = copy.deepcopy(real)
    for _ in range(draw(st.integers(1, 3))):
        spots = list(_spots(document))
        if not spots:
            break
        *way, last = draw(st.sampled_from(spots))
        node = document
        for key in way:
            node = node[key]
        change = draw(st.sampled_from(["value", "remove", "add"]))
        if change == "value":
            node[last] = draw(VALUES)
        elif change == "remove":
            del node[last]
        elif isinstance(node, dict):
            node[draw(TEXTS)] = draw(VALUES)
    data = json.dumps(document).encode()
    return draw(st.just(data) | pieces(data))


@st.composite
def pieces(draw, data: bytes) -> bytes:
    """Truncated bytes, or bytes with a replaced piece."""
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, len(data)))
    return data[:start] + draw(st.binary(max_size=8)) + data[end:]


class Outside:
    """The files next to the working folder, which must not change."""

    def __init__(self, root: Path):
        self.root = root
        (root / "inside").mkdir()
        (root / "x").write_text("outside")
        self._before = self._look()

    def _look(self) -> list:
        there = [path for path in self.root.iterdir() if path.name != "inside"]
        return sorted((path.name, path.read_text()) for path in there)

    def check(self) -> None:
        assert self._look() == self._before
