"""Locks on a disk: files that a process holds by flock."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from visionflows.errors import LockedError, StorageError
from visionflows.storage.write_errors import describe_error, storage_errors

_held: set[int] = set()  # descriptors of this process's locks


@contextlib.contextmanager
def hold(path: Path, wait: float) -> Iterator[None]:
    """Hold the lock of a file for the block; see LocalStorage.lock."""
    deadline = time.monotonic() + wait
    while (descriptor := _try_lock(path)) is None:
        if time.monotonic() >= deadline:
            raise LockedError(f"{path.parent}: another run is writing here; wait for it to end")
        time.sleep(0.2)
    try:
        yield
    finally:
        if descriptor in _held:  # else this is a fork, and its parent holds the lock
            with contextlib.suppress(OSError):
                path.unlink()
            _held.discard(descriptor)
            os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of a file; None if another process holds it."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    _held.add(descriptor)
    locked = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = os.path.samestat(os.fstat(descriptor), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        pass  # held, or released and deleted between the two calls
    except OSError as error:
        raise StorageError(describe_error(path, error)) from error
    finally:
        if not locked:
            _held.discard(descriptor)
            os.close(descriptor)
    return descriptor if locked else None


def _forget() -> None:
    """Forget the locks in a forked child: they are its parent's."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
