"""Checks before Prefect starts, which would wait for minutes: proxies and writable folders."""

import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from visionflows.errors import StorageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def bypass_proxies(env: MutableMapping[str, str] = os.environ, *hosts: str) -> None:
    """Exclude this machine and `hosts` from HTTP_PROXY and the like; child processes inherit it."""
    names = ",".join(env.get(name, "") for name in ("no_proxy", "NO_PROXY")).split(",")
    names = [name.strip() for name in names if name.strip()]
    env["NO_PROXY"] = env["no_proxy"] = ",".join(dict.fromkeys([*names, *LOOPBACK, *hosts]))


def check_folders(prefect_home: Path | None = None) -> None:
    """Check that Prefect's folder (PREFECT_HOME, or the given one) and TMPDIR are writable.

    Raises StorageError if HOME is unknown, or if one of them is not writable.
    """
    try:
        home = Path.home()
    except RuntimeError as error:  # a user id without an account, as in containers
        raise StorageError(
            f"HOME is not set, and user {os.getuid()} has no account; set HOME to a writable folder"
        ) from error
    prefect = prefect_home or os.environ.get("PREFECT_HOME")
    if prefect:
        setting = "--state" if prefect_home else "PREFECT_HOME"
        _check_writable(Path(prefect).expanduser(), setting)
    else:
        _check_writable(home / ".prefect", "HOME or PREFECT_HOME", "Prefect's folder")
    if temporary := os.environ.get("TMPDIR"):
        if not Path(temporary).is_dir():
            raise StorageError(f"TMPDIR={temporary}: no such folder; make it, or unset TMPDIR")
        _check_writable(Path(temporary), "TMPDIR")


def _check_writable(folder: Path, setting: str, name: str = "") -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))  # a full disk accepts an empty file
    except OSError as error:
        raise StorageError(
            f"{name or setting} {folder}: cannot be written ({error.strerror}); set {setting} to "
            "a writable folder"
        ) from error
