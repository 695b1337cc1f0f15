"""Small images and label CSVs for the datasets tests."""

import hashlib
from pathlib import Path

import pytest
from conftest import encoded, picture

from visionflows.datasets.file_table import build_table
from visionflows.errors import TableError

PICTURES = [f"images/{at:04}.jpg" for at in range(8)]


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest())
        (folder / name).write_bytes(encoded(picture(seed, (12, 9)), "PNG"))
    return folder


def csv_of(folder: Path, head: str, *cells: str) -> str:
    """The label rule of a CSV of these paths, alternately black and white."""
    lines = [f"{cell},{('black', 'white')[at % 2]}" for at, cell in enumerate(cells)]
    (folder / "labels.csv").write_text("\n".join([head, *lines]) + "\n")
    return f"csv:{folder}/labels.csv"


def stopped(folder: Path, rule: str) -> str:
    with pytest.raises(TableError) as caught:
        build_table(folder, rule)
    assert str(caught.value).isprintable(), "an error is one line"
    return str(caught.value)
