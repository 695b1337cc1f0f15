"""The content of a file on this machine, and never more of it than asked for.

from visionflows.bounded_read import TooLarge, content_of
content_of("1.jpg", 1 << 30)
"""

import errno
import os
import stat


class TooLarge(OSError):
    """A file of more bytes than were asked for; not read. `size`: what it has, at least."""

    def __init__(self, size: int):
        super().__init__(errno.EFBIG, f"it has {size:,} bytes")
        self.size = size


def read_bounded(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """All bytes of a file, if it has no more than `most`.

    Raises TooLarge, and OSError as the system does: for a pipe or a device too, which may never
    end. Running out of memory is such an error as well.
    """
    # A pipe that nobody writes to would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "a pipe or a device, not a file")
        if most is None:
            return file.read()
        if status.st_size > most:
            raise TooLarge(status.st_size)
        try:
            data = file.read(status.st_size + 1)
            if len(data) > status.st_size:  # it grew, or is one of the kernel's, which say 0
                data += file.read(most + 1 - len(data))
        except MemoryError:
            raise out_of_memory() from None
    if len(data) > most:
        raise TooLarge(len(data))
    return data


def out_of_memory() -> OSError:
    """The error of a file that memory has no room for."""
    return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
