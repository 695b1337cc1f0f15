"""Folders of small labelled images for the datasets tests, and the error of a table."""

import hashlib
from pathlib import Path

import pytest
from conftest import encoded, picture

from visionflows.datasets.file_table import build_table
from visionflows.errors import TableError


def make(folder: Path, *names: str, seed: int | None = None) -> None:
    """Write small images: each different, or all of the same `seed`."""
    for at, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        name_seed = int.from_bytes(
            hashlib.sha256(f"{at}{name}".encode(errors="surrogateescape")).digest()
        )
        file.write_bytes(encoded(picture(name_seed if seed is None else seed, (12, 9)), "PNG"))


def pets(folder: Path, cats: int = 10, dogs: int = 10) -> Path:
    make(folder, *(f"cat/c{at}.png" for at in range(cats)))
    make(folder, *(f"dog/d{at}.png" for at in range(dogs)))
    return folder


def labels_of(table) -> dict[str, str]:
    return dict(zip(table.path, table.label, strict=True))


def stopped(folder: Path, labels: str = "folder", **options) -> str:
    """The error message of a table that cannot be built."""
    with pytest.raises(TableError) as caught:
        build_table(folder, labels, **options)
    line = str(caught.value)
    assert line.isprintable(), "an error is one line"
    return line
