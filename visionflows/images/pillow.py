"""Pillow's limit on pixels, lifted for our own calls, which check sizes themselves."""

import contextlib
import os
import threading
from collections.abc import Iterator

from PIL import Image

_lock = threading.Lock()
_users = 0  # blocks that are running
_limit: int | None = None  # the process's own, while there are any


@contextlib.contextmanager
def no_pixel_limit() -> Iterator[None]:
    """Lift `Image.MAX_IMAGE_PIXELS` for the block; the end of the last block restores it.

    The setting is global: other threads have no limit either while one of these blocks runs.
    """
    global _users, _limit
    with _lock:
        if not _users:
            _limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users = max(_users - 1, 0)  # 0 already in a fork
            if not _users:
                Image.MAX_IMAGE_PIXELS = _limit


def _forget() -> None:
    """Restore the limit in a forked child, which has none of its parent's threads."""
    global _lock, _users
    _lock = threading.Lock()
    if _users:
        _users, Image.MAX_IMAGE_PIXELS = 0, _limit


os.register_at_fork(after_in_child=_forget)
