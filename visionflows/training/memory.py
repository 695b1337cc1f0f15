"""What a CPU that trains asks of the system's memory: huge pages, and to keep what a step frees.

    from visionflows.training.memory import kept_memory
    with kept_memory(): learn.fine_tune(1)

Every step asks for the same gigabytes anew. Given back and asked for again, page by page, they
cost more than the network of many small layers that they are for.
"""

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator

# Of glibc's mallopt(3), and what they are by default.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _MMAP_MAX: 65536}


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """For the block, memory that is freed stays this process's; then the system has it back.

    Seen with tf_efficientnet_lite0 in bfloat16: an epoch of 11.8 s instead of 15.8 s. Nothing but
    huge pages where the C library is not glibc.
    """
    # Read by torch when it first allocates: https://docs.pytorch.org/docs/stable/threading_environment_variables.html
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    glibc = ctypes.CDLL(None)
    glibc.mallopt(_MMAP_MAX, 0)
    glibc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        for option, value in _DEFAULTS.items():
            glibc.mallopt(option, value)
        glibc.malloc_trim(0)
