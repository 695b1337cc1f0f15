"""Errors of writing to a disk as StorageErrors: the path, what is wrong, and what to do."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from visionflows.errors import StorageError

# Errors of file systems without locks, such as NFS without lockd, Lustre without `-o flock`.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def storage_errors(path: Path, only: tuple[int, ...] = ()) -> Iterator[None]:
    """Translate OSErrors, or those with `only` these numbers, into StorageErrors about `path`."""
    try:
        yield
    except OSError as error:
        if only and error.errno not in only:
            raise
        raise StorageError(describe_error(path, error)) from error


def describe_error(path: Path, error: OSError) -> str:
    """What went wrong with writing a path, and what to do, in one line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: no space left on its disk; free some, or name another location"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: this user may not write there; name a folder that it may write"
    if error.errno in _NO_LOCKS:
        reason = f"its file system has no locks ({error.strerror})"
        return f"{path}: {reason}; mount it with flock, or name another location"
    return f"{path}: cannot be written ({error.strerror}); name another location"
