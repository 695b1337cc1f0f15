"""The guarded way to open a file that a user names: only a regular file, and not too large."""

import errno
import os
import stat
from typing import BinaryIO


class TooLarge(OSError):
    """A file with more bytes than allowed; it was not read. `size`: its bytes, at least."""

    def __init__(self, size: int):
        super().__init__(errno.EFBIG, f"it has {size:,} bytes")
        self.size = size


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """The file, open for reading bytes.

    Raises OSError; also for a folder, and for a pipe or a device, which may never end.
    """
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(errno.EINVAL, "a pipe or a device, not a file")


def read_bounded(path: str | os.PathLike[str], max_bytes: int | None = None) -> bytes:
    """All bytes of a file. Raises TooLarge for more than `max_bytes`, and as open_regular does.

    Running out of memory is an OSError too.
    """
    with open_regular(path) as file:
        if max_bytes is None:
            return file.read()
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise TooLarge(size)
        try:
            data = file.read(size + 1)
            if len(data) > size:  # it grew, or is a kernel's file, whose size is 0
                data += file.read(max_bytes + 1 - len(data))
        except MemoryError:
            raise out_of_memory() from None
    if len(data) > max_bytes:
        raise TooLarge(len(data))
    return data


def out_of_memory() -> OSError:
    """The error for a file that does not fit into memory."""
    return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
