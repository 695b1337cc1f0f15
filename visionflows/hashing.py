"""The sha256 of bytes, of a file, and of what is being written: how anything here is told apart.

from visionflows.hashing import sha256_of
sha256_of(b"")[:8]                               # 'e3b0c442'
"""

import hashlib
from typing import BinaryIO


def sha256_of(data: bytes) -> str:
    """The sha256 of bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def md5_of(data: bytes) -> str:
    """The MD5 of bytes, 32 hex digits: what S3 calls most of its objects by, and no more."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def sha256_of_file(file: BinaryIO) -> str:
    """The sha256 of all that a file still has to read, 64 hex digits, in flat memory."""
    # typing's BinaryIO lacks readinto, which every binary file has.
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


class HashingWriter:
    """A file to write to, and what was written: how many bytes, and their sha256."""

    def __init__(self, target: BinaryIO):
        self.target, self._hash, self.size = target, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self.target.write(data)
        self._hash.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()
