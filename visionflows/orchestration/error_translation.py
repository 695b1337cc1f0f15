"""Translate errors of the system and of libraries into VisionflowsErrors: one line, what to do."""

import errno
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import httpx

from visionflows.errors import RunError, SettingsError, StorageError, VisionflowsError
from visionflows.orchestration.server import unreachable
from visionflows.orchestration.url_redaction import redact

P = ParamSpec("P")
R = TypeVar("R")

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_MEMORY = (
    *("can't allocate memory", "out of memory", "Cannot allocate memory"),
    *("can't start new thread", "failed to map segment"),
)
_NO_MEMORY_MESSAGE = "not enough memory; use a smaller --batch-size or fewer --workers"
ALMOST_FULL = 1 << 20  # bytes free; one write may need more than is left


def translate_errors(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, with known errors translated and URLs redacted in all others."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            translated = translate(error)
            if translated and translated is not error:
                raise translated from error
            error.args = tuple(redact(arg) if isinstance(arg, str) else arg for arg in error.args)
            raise

    return call


def translate(error: BaseException) -> VisionflowsError | None:
    """The error as a VisionflowsError; None if it is unknown."""
    if isinstance(error, VisionflowsError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        return RunError(_NO_MEMORY_MESSAGE)
    if isinstance(error, OSError):
        return _translate_system(error, text)
    if isinstance(error, RuntimeError) and "home directory" in text:
        return SettingsError("HOME: not set, and this user has none; set it to a writable folder")
    if isinstance(error, ModuleNotFoundError):
        return SettingsError(f"{error.name}: not installed; install visionflows again")
    return _translate_prefect(error, text)


def _translate_system(error: OSError, text: str) -> VisionflowsError | None:
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    folder = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"  # in use, or as configured
    if "No usable temporary directory" in text:
        return StorageError(f"{folder}: no folder for temporary files; set TMPDIR to one")
    if error.errno in _DISK_FULL:
        return StorageError(_describe_full_disk(path, folder))
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return RunError("too many open files; allow more (ulimit -n 4096)")
    if error.errno == errno.ENOMEM:
        return RunError(_NO_MEMORY_MESSAGE)
    if path and error.strerror:
        return StorageError(f"{path}: {error.strerror.lower()}; check that it exists and its owner")
    return None


def _describe_full_disk(path: str, temporary: str) -> str:
    if path:
        return f"{path}: no space left on its disk; free some"
    if shutil.disk_usage(temporary).free < ALMOST_FULL:
        return f"{temporary}: no space left for temporary files; free some, or set TMPDIR"
    return "no space left on the disk of the output; free some, or name another output"


def _translate_prefect(error: BaseException, text: str) -> VisionflowsError | None:
    prefect = sys.modules.get("prefect.exceptions")
    if not prefect:
        return None
    if isinstance(error, prefect.ParameterTypeError):
        return SettingsError(text)
    if isinstance(error, httpx.TransportError) or "Failed to reach API" in text:
        return unreachable(type(error).__name__)
    if isinstance(error, httpx.HTTPStatusError):
        return unreachable(f"HTTP {error.response.status_code}")
    return None
