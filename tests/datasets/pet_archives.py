"""A small archive of pets for the fetch tests, and a store on the disk and in a bucket."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from conftest import encoded, picture

from visionflows.storage import open_storage


def pets(count: int = 20, seed: int = 0) -> dict[str, bytes]:
    """Photos in the layout and naming of the Oxford-IIIT Pet archive."""
    names = ("Abyssinian_1{}.jpg", "american_bulldog_1{}.jpg")
    return {
        f"oxford-iiit-pet/images/{names[index % 2].format(index)}": encoded(picture(seed + index))
        for index in range(count)
    }


def tgz(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


PETS = pets()
ARCHIVE = tgz(PETS)
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


@pytest.fixture
def store(where, tmp_path) -> str:
    return where(tmp_path / "store")


@pytest.fixture
def home(where, tmp_path) -> Path:
    """The local folder of the store's datasets."""
    return tmp_path / ("store" if where is str else "cache") / "datasets"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def visible(home: Path) -> list[str]:
    """The visible datasets of a store."""
    return open_storage(home).names()


def pending(home: Path) -> list[str]:
    """The unfinished downloads of a store."""
    return os.listdir(home / ".archives")
