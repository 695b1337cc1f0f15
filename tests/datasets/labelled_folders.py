"""Folders of small labelled pictures for the tests of data, and how a table is refused."""

import hashlib
from pathlib import Path

import pytest
from conftest import encoded, picture

from visionflows.datasets.file_table import build_table
from visionflows.errors import TableError


def make(folder: Path, *names: str, seed: int | None = None) -> None:
    """Small pictures; each of its own, or all of one `seed`."""
    for at, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        own = int.from_bytes(
            hashlib.sha256(f"{at}{name}".encode(errors="surrogateescape")).digest()
        )
        file.write_bytes(encoded(picture(own if seed is None else seed, (12, 9)), "PNG"))


def pets(folder: Path, cats: int = 10, dogs: int = 10) -> Path:
    make(folder, *(f"cat/c{at}.png" for at in range(cats)))
    make(folder, *(f"dog/d{at}.png" for at in range(dogs)))
    return folder


def labels_of(table) -> dict[str, str]:
    return dict(zip(table.path, table.label, strict=True))


def stopped(folder: Path, labels: str = "folder", **options) -> str:
    """The line that stops the run."""
    with pytest.raises(TableError) as caught:
        build_table(folder, labels, **options)
    line = str(caught.value)
    assert line.isprintable(), "an error is one line"
    return line
