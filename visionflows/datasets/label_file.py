"""A label file: where it is, and its content within bounds."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from visionflows.errors import StorageError, TableError
from visionflows.storage import absolute, open_storage, split_location
from visionflows.storage.base import Storage

MAX_BYTES = 256 << 20  # of a label file that is read as a whole
MAX_LISTED = 5_000_000  # images that label files may list
_CHUNK = 1 << 16


@dataclass(frozen=True)
class LabelFile:
    """The label file at a location, or a folder of them; `storage` holds it under `name`.

    `folder` is the one that it is in, if that is on this machine; else empty.
    """

    location: str
    storage: Storage
    name: str
    folder: str

    @classmethod
    def find(cls, location: str, dataset: Path, wanted: str) -> "LabelFile":
        """The file, `wanted` as an error names it. Raises StorageError if there is none.

        A relative path is looked up from the current folder, then from the dataset.
        """
        for each in _locations(location, dataset):
            storage, name = split_location(each)
            if storage.exists(name):
                folder = os.path.dirname(absolute(each)) if storage.is_local else ""
                return cls(location, storage, name, folder)
        raise StorageError(f"{location}: no such file; --labels {wanted}")

    @classmethod
    def find_folder(cls, location: str, dataset: Path, wanted: str) -> "LabelFile":
        """The folder, as `find` does."""
        for each in _locations(location, dataset):
            storage = open_storage(each)
            if storage.exists():
                return cls(location, storage, "", absolute(each) if storage.is_local else "")
        raise StorageError(f"{location}: no such folder; --labels {wanted}")

    def read(self) -> bytes:
        """The whole content. Raises StorageError, and TableError for more than MAX_BYTES."""
        try:
            if (size := self.storage.entry(self.name).size) > MAX_BYTES:
                self.fail(f"has {size:,} bytes, more than {MAX_BYTES:,}; take out what is not used")
            return self.storage.read(self.name)
        except OSError as error:
            raise self._unreadable(error) from error

    def chunks(self) -> Iterator[bytes]:
        """The content in parts of 64 KB. Raises StorageError."""
        try:
            with self.storage.open_read(self.name) as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except OSError as error:
            raise self._unreadable(error) from error

    def fail(self, reason: str, cause: Exception | None = None) -> NoReturn:
        """Raise the TableError of this file."""
        raise TableError(f"{self.location}: {reason}") from cause

    def check_count(self, count: int) -> None:
        """Raise TableError for more images than MAX_LISTED."""
        if count > MAX_LISTED:
            self.fail(f"lists more than {MAX_LISTED:,} images; list those of this dataset only")

    def _unreadable(self, error: OSError) -> StorageError:
        return StorageError(f"{self.location}: cannot be read ({error.strerror})")


def _locations(location: str, dataset: Path) -> list[str]:
    inside = [os.path.join(dataset, location)] if open_storage(location).is_local else []
    return [location, *inside]
