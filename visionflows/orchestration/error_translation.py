"""Errors of the system and of libraries as ours: one line that says what to do.

    known(OSError(errno.ENOSPC, "No space left on device"))      # PlaceError: /tmp: no space …

A library's text is for who wrote it. What is not known here stays what it is.
"""

import errno
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from visionflows.errors import RunError, SettingsError, StorageError, VisionflowsError
from visionflows.orchestration.url_redaction import public

P = ParamSpec("P")
R = TypeVar("R")

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_MEMORY = (
    *("can't allocate memory", "out of memory", "Cannot allocate memory"),
    *("can't start new thread", "failed to map segment"),
)
LITTLE = 1 << 20  # bytes; what is written at once may be larger than what is left


def plainly(function: Callable[P, R]) -> Callable[P, R]:
    """The same function; errors that are known are raised as ours, secrets are cut from any."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            ours = known(error)
            if ours is error or ours is None:
                error.args = tuple(
                    public(one) if isinstance(one, str) else one for one in error.args
                )
                raise
            raise ours from error

    return call


def known(error: BaseException) -> VisionflowsError | None:
    """The error as one of ours, if it is one or is known here."""
    if isinstance(error, VisionflowsError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        return RunError("not enough memory; use a smaller --batch-size, fewer --workers")
    if isinstance(error, OSError):
        return _of_system(error, text)
    if isinstance(error, RuntimeError) and "home directory" in text:
        return SettingsError("HOME: not set, and this user has none; set it to a folder to write")
    if isinstance(error, ModuleNotFoundError):
        return SettingsError(f"{error.name}: not installed; install visionflows anew")
    return _of_prefect(error, text)


def _of_system(error: OSError, text: str) -> VisionflowsError | None:
    what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if "No usable temporary directory" in text:
        return StorageError(f"{_temporary()}: no folder for temporary files; set TMPDIR to one")
    if error.errno in _FULL:
        return StorageError(_full(what))
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return RunError("too many open files; allow more (ulimit -n 4096)")
    if error.errno == errno.ENOMEM:
        return RunError("not enough memory; use a smaller --batch-size, fewer --workers")
    if what and error.strerror:
        return StorageError(f"{what}: {error.strerror.lower()}; see that it is there and yours")
    return None


def _full(what: str) -> str:
    if what:
        return f"{what}: no space left on its disk; free some"
    folder = _temporary()
    if shutil.disk_usage(folder).free < LITTLE:
        return f"{folder}: no space left for temporary files; free some, or set TMPDIR"
    return "no space left where this writes to; free some, or name another place"


def _temporary() -> str:
    """The folder for temporary files, as it is or as it was wished for."""
    return tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"


def _of_prefect(error: BaseException, text: str) -> VisionflowsError | None:
    from visionflows.orchestration.preflight import unreachable

    httpx, prefect = sys.modules.get("httpx"), sys.modules.get("prefect.exceptions")
    if httpx and prefect:
        if isinstance(error, prefect.ParameterTypeError):
            return SettingsError(text)
        if isinstance(error, httpx.TransportError) or "Failed to reach API" in text:
            return unreachable(type(error).__name__)
        if isinstance(error, httpx.HTTPStatusError):
            return unreachable(f"HTTP {error.response.status_code}")
    return None
