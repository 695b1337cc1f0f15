"""Locks in a bucket: leases, which are objects that the holder renews.

A run writes a lease and then lists all leases of the lock; if another live one exists, it deletes
its own. S3's listings show every earlier write, so of two concurrent runs at least one sees the
other, and both never hold the lock. No conditional write is needed, which some servers lack.

A lease is renewed every few seconds. It ends with its process: at once for runs on the same
machine, elsewhere when it has not been renewed for a minute by the server's clock. A lease that
cannot be read counts as held. A holder that was taken for dead, such as a machine that slept,
notices in `check`.
"""

import contextlib
import datetime
import json
import logging
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from visionflows.errors import LockedError, StorageError
from visionflows.storage.base import ReadFailed, Storage

log = logging.getLogger("visionflows.lease")

RENEWAL_SECONDS = 15.0
EXPIRY_SECONDS = 60.0


class TimestampedStorage(Storage, Protocol):
    """A storage location that knows when its files were written, by the server's clock."""

    def last_modified(self, name: str) -> dict[str, datetime.datetime]: ...


_held: list[tuple[TimestampedStorage, str]] = []  # locations locked by this process, and leases


@contextlib.contextmanager
def hold(storage: TimestampedStorage, name: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of that name for the block. Raises LockedError, and StorageError."""
    deadline = time.monotonic() + wait
    lease = f"{name}/{secrets.token_hex(8)}"
    while reason := _acquire(storage, name, lease):
        if time.monotonic() >= deadline:
            raise LockedError(f"{storage}: {reason}")
        time.sleep(random.uniform(0.2, 1))
    held, ended = (storage, lease), threading.Event()
    renewing = threading.Thread(target=_renew, args=(storage, lease, ended), daemon=True)
    _held.append(held)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        _held.remove(held)
        try:
            storage.remove(lease)
        except (StorageError, OSError) as error:  # the block has its own result or error
            log.warning("%s: its lock could not be removed, and expires: %s", storage, error)


def check(storage: Storage, name: str) -> None:
    """Raise LockedError if a lock of this process over a file is no longer its own."""
    for locked, lease in list(_held):
        if f"{storage}/{name}".startswith(f"{locked}/") and not locked.exists(lease):
            raise LockedError(
                f"{locked}: another run took over the lock, as this one did not renew it for a "
                "minute; wait for it to end"
            )


def _acquire(storage: TimestampedStorage, name: str, own: str) -> str:
    """Write a lease; if another run holds or wants the lock, delete it and return the reason."""
    storage.write(own, json.dumps(this_process()).encode())
    leases = storage.last_modified(name)
    if own not in leases:
        return "its lease vanished as soon as it was written; try again"
    for lease in leases.keys() - {own}:
        reason = _holder(storage, lease, (leases[own] - leases[lease]).total_seconds())
        storage.remove(own if reason else lease)
        if reason:
            return reason
    return ""


def _holder(storage: TimestampedStorage, lease: str, age: float) -> str:
    """Who holds a lease and what to do about it; empty if it has expired."""
    try:
        owner = json.loads(storage.read(lease))
        expired = is_dead(owner) or age >= EXPIRY_SECONDS
        process = f"process {owner['pid']} on {owner['host']}"
    except FileNotFoundError:
        return ""  # released in the meantime
    except (ReadFailed, ValueError, LookupError, TypeError):
        return f"{lease} cannot be read, and may be another run's; if none is there, delete it"
    todo = "wait for it to end, or for a minute if it was killed on another machine"
    return "" if expired else f"another run is writing here ({process}); {todo}"


def _renew(storage: TimestampedStorage, lease: str, ended: threading.Event) -> None:
    while not ended.wait(RENEWAL_SECONDS):
        try:
            storage.write(lease, json.dumps(this_process()).encode())
        except LockedError:
            return  # another run took it over
        except StorageError as error:
            log.warning("the lock could not be renewed: %s", error)


def this_process() -> dict[str, Any]:
    """The identity of this process, for JSON.

    It is the machine's boot, the PID namespace (a container's own), the PID, and the start time,
    as PIDs are reused.
    """
    identity = {"machine": _machine(), "host": socket.gethostname()}
    return {**identity, "pid": os.getpid(), "started": _start_time("self")}


def is_dead(owner: dict[str, Any]) -> bool:
    """Whether a process is known to have ended; of other machines nothing is known."""
    machine = _machine()
    if not machine or owner["machine"] != machine:
        return False
    return bool(_start_time(owner["pid"]) != owner["started"])


def _machine() -> str:
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _start_time(pid: int | str) -> str:
    """When a process was started, in ticks since boot; empty if it has ended or without /proc."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
