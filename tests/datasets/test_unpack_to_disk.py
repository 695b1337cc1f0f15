"""Unpacked files are synced to the disk, so that a power cut loses none."""

import ctypes
import errno
import io
import os
import tarfile
from pathlib import Path

import pytest

from visionflows.datasets import unpack as unpacking
from visionflows.datasets.unpack import sync_disk, unpack
from visionflows.errors import StorageError

NAMES = ("pets/cat.jpg", "pets/sub/dog.jpg")


@pytest.fixture
def packed(tmp_path) -> Path:
    """An archive of NAMES."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in NAMES:
            info = tarfile.TarInfo(name)
            info.size = 5_000
            tar.addfile(info, io.BytesIO(bytes(5_000)))
    return tmp_path / "a.tar"


def test_all_files_are_synced_before_the_folder_is_renamed(packed, tmp_path, monkeypatch):
    target, seen = tmp_path / "out", []

    def watched(folder: Path) -> None:
        seen.append((target.exists(), sum(path.is_file() for path in folder.rglob("*"))))
        sync_disk(folder)

    monkeypatch.setattr(unpacking, "sync_disk", watched)
    unpack(packed, target)
    assert seen == [(False, len(NAMES)), (True, len(NAMES) + 1)], "its content, then its name"


@pytest.mark.parametrize("system", ["with syncfs", "without"])
def test_a_disk_that_fails_leaves_nothing(packed, tmp_path, monkeypatch, system):
    def fails(*_) -> int:
        if system == "without":
            raise OSError(errno.EIO, "Input/output error")
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(unpacking, "_syncfs", fails if system == "with syncfs" else None)
    monkeypatch.setattr(os, "sync", fails)
    with pytest.raises(StorageError, match="Input/output error"):
        unpack(packed, tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.tar"]
