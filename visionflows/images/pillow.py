"""Pillow without its limit on pixels and its warnings: our calls check sizes themselves."""

import contextlib
import os
import re
import threading
import warnings
from collections.abc import Iterator
from typing import cast

from PIL import Image

# A filter of `warnings`: Pillow warns of each damaged tag, and one file can hold thousands.
_QUIET = ("ignore", None, UserWarning, re.compile(r"PIL\."), 0)

_lock = threading.Lock()
_users = 0  # blocks that are running
_limit: int | None = None  # the process's own, while there are any


@contextlib.contextmanager
def no_pixel_limit() -> Iterator[None]:
    """Lift `Image.MAX_IMAGE_PIXELS` and hide warnings for the block; the end of the last restores.

    Both are global: other threads have no limit either while one of these blocks runs.
    """
    global _users, _limit
    with _lock:
        if not _users:
            _limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            _filters().insert(0, _QUIET)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users = max(_users - 1, 0)  # 0 already in a fork
            if not _users:
                _restore()


def _filters() -> list[object]:
    return cast(list[object], warnings.filters)


def _restore() -> None:
    Image.MAX_IMAGE_PIXELS = _limit
    if _QUIET in _filters():  # other code may have put its own filters back
        _filters().remove(_QUIET)


def _forget() -> None:
    """Restore them in a forked child, which has none of its parent's threads."""
    global _lock, _users
    _lock = threading.Lock()
    if _users:
        _users = 0
        _restore()


os.register_at_fork(after_in_child=_forget)
