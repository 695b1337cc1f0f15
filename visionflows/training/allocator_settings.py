"""What a training asks of the system's memory: huge pages, and to keep what a step frees.

    from visionflows.training.allocator_settings import keep_freed_memory
    with keep_freed_memory(): learn.fine_tune(1)

On a CPU every step asks for the same gigabytes anew. Given back and asked for again, page by page,
they cost more than the network of many small layers that they are for.
"""

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator

# Of glibc's mallopt(3). What is set once glibc adapts no more, so afterwards it has what a process
# of large arrays comes to by itself: the most that both thresholds are raised to, and the default.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_AFTERWARDS = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20, _MMAP_MAX: 65536}


@contextlib.contextmanager
def keep_freed_memory() -> Iterator[None]:
    """For the block, memory that is freed stays this process's; then the system has it back.

    Seen with tf_efficientnet_lite0 in bfloat16: an epoch of 11.8 s instead of 15.8 s. Nothing but
    huge pages where the C library is not glibc, in another thread than the first, or once an
    allocation of that thread has failed: glibc serves those from arenas that keep no large array.
    """
    # Read by torch when it first allocates: https://docs.pytorch.org/docs/stable/threading_environment_variables.html
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if _is_glibc():
        glibc = ctypes.CDLL(None)
        glibc.mallopt(_MMAP_MAX, 0)
        glibc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        give_back()


def give_back() -> None:
    """What is free now is the system's again, and what will be: also in a process forked within."""
    if _is_glibc():
        glibc = ctypes.CDLL(None)
        for option, value in _AFTERWARDS.items():
            glibc.mallopt(option, value)
        glibc.malloc_trim(0)


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
