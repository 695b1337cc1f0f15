"""Digests of bytes and of files."""

import hashlib
from typing import BinaryIO


def sha256_of(data: bytes) -> str:
    """The SHA-256 of bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def md5_of(data: bytes) -> str:
    """The MD5 of bytes, 32 hex digits: the ETag of most S3 objects."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def sha256_of_file(file: BinaryIO) -> str:
    """The SHA-256 of the rest of a file, 64 hex digits, in constant memory."""
    # typing's BinaryIO lacks readinto, which every binary file has.
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
