"""Locks in a bucket: leases, which are objects that the holder renews.

A run looks first: where another live lease is, it waits without writing. Else it writes its own and
lists all: it holds the lock once no other live lease is there. S3's listings show every earlier
write, so of two runs that begin at once at least one sees the other. Both may: then the one whose
lease sorts first waits for the other to withdraw, and exactly one goes on.

A lease is renewed every few seconds. It ends with its process: at once for runs on the same
machine, elsewhere when it has not been renewed for a minute by the server's clock. A lease that
cannot be read counts as held. A holder doubts its lock by its own clock, well before that minute
ends. Then it writes nothing until a renewal found its lease in place and, afterwards, no other:
a run that takes over writes its lease before it judges others, so one of the two sees the other.
A renewal is conditional, so that one that was stalled cannot bring back a lease that is gone.
"""

import contextlib
import datetime
import email.utils
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
from visionflows.storage.base import ReadFailed
from visionflows.storage.s3 import objects
from visionflows.storage.s3.client import call
from visionflows.storage.s3.error_messages import ChangedError

log = logging.getLogger("visionflows.lease")

RENEWAL_SECONDS = 15.0
EXPIRY_SECONDS = 60.0
DOUBT_SECONDS = 40.0  # by the holder's clock; what it wrote before has until EXPIRY to arrive
WITHDRAWAL_SECONDS = 3.0  # for another run that began in the same second to withdraw
MAX_PAUSE = 15.0  # seconds between two looks at a lock that is held


class Location(Protocol):
    """A prefix in a bucket."""

    bucket: str
    prefix: str


_held: list["Lease"] = []  # by this process


class Lease:
    """A lease of this process on the lock of a name in a storage."""

    def __init__(self, storage: Location, name: str):
        self.storage, self.folder = storage, f"{storage.prefix}{name}/"
        self.key = f"{self.folder}{secrets.token_hex(8)}"
        self.renewed, self.is_lost, self._tag = _now(), False, ""
        self._renewing = threading.Lock()

    def acquire(self) -> str:
        """Take the lock; if another run holds or wants it, why not, and nothing is left."""
        if rivals := self._rivals(self._leases()):
            return rivals[min(rivals)]
        self._write()
        deadline = time.monotonic() + WITHDRAWAL_SECONDS
        while True:
            leases = self._leases()
            if self.key not in leases:
                return "its lease vanished as soon as it was written; try again"
            if not (rivals := self._rivals(leases, remove_expired=True)):
                return ""
            if min(rivals) < self.key or time.monotonic() >= deadline:
                self.release()
                return rivals[min(rivals)]
            time.sleep(WITHDRAWAL_SECONDS / 10)

    def renew(self) -> None:
        """Show that the holder lives. Sets `is_lost` if another run took the lock over."""
        with self._renewing:
            if self.is_lost:
                return
            before = self.renewed
            self.is_lost = self.key not in self._leases()
            if not self.is_lost:
                with contextlib.suppress(ChangedError, FileNotFoundError):
                    self._write(self._tag)  # a gateway's 404 is no sign that the lease is gone
                leases = self._leases()
                in_doubt = _seconds_since(before) >= DOUBT_SECONDS
                self.is_lost = self.key not in leases or (in_doubt and bool(self._rivals(leases)))
            if self.is_lost:
                self.release()  # it may have been written anew

    def _write(self, tag: str = "") -> None:
        """Write the lease; over the one with this ETag, where the server knows conditions."""
        began, condition = _now(), {"IfMatch": f'"{tag}"'} if tag else {}
        content = json.dumps({**this_process(), "renewed": time.time()}).encode()
        self._tag = objects.put(self.storage.bucket, self.key, content, **condition)
        self.renewed = began

    def check(self) -> None:
        """Raise LockedError unless the lock is certainly held; StorageError if it is unknown."""
        if _seconds_since(self.renewed) >= DOUBT_SECONDS:
            self.renew()
        if self.is_lost:
            raise LockedError(
                f"{self.storage}: another run took over the lock, as this one did not renew it for "
                "a minute; wait for it to end"
            )

    def covers(self, storage: Location, name: str) -> bool:
        """Whether a file is in the locked location."""
        return f"{storage}/{name}".startswith(f"{self.storage}/")

    def release(self) -> None:
        """Delete the lease."""
        call("delete_object", self.storage.bucket, Key=self.key)

    def _leases(self) -> dict[str, float]:
        """The leases of the lock, and the seconds since each was written, by the server's clock."""
        page = call("list_objects_v2", self.storage.bucket, Prefix=self.folder)
        date = page.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
        try:
            now = email.utils.parsedate_to_datetime(date)
        except ValueError:
            now = datetime.datetime.now(datetime.UTC)
        found = page.get("Contents", ())
        return {item["Key"]: (now - item["LastModified"]).total_seconds() for item in found}

    def _rivals(self, leases: dict[str, float], remove_expired: bool = False) -> dict[str, str]:
        """The other live leases, each with who holds it and what to do about it.

        Expired ones may only be removed once the own lease is written: its holder looks for it.
        """
        rivals = {}
        for key in leases.keys() - {self.key}:
            if holder := self._holder(key, leases[key]):
                rivals[key] = holder
            elif remove_expired:
                call("delete_object", self.storage.bucket, Key=key)
        return rivals

    def _holder(self, key: str, age: float) -> str:
        """Who holds a lease; empty if it has expired."""
        shown = key.removeprefix(self.storage.prefix)
        try:
            owner = json.loads(objects.get(self.storage.bucket, key)[0])
            expired = is_dead(owner) or age >= EXPIRY_SECONDS
            process = f"process {owner['pid']} on {owner['host']}"
        except FileNotFoundError:
            return ""  # released in the meantime
        except (ReadFailed, ValueError, LookupError, TypeError):
            return f"{shown} cannot be read, and may be another run's; if none is there, delete it"
        todo = "wait for it to end, or for a minute if it was killed on another machine"
        return "" if expired else f"another run is writing here ({process}); {todo}"


def _now() -> tuple[float, float]:
    """The clock that runs on while a machine sleeps, and the time of day.

    A virtual machine that is paused may only see the second.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock), time.time()


def _seconds_since(earlier: tuple[float, float]) -> float:
    """The seconds since an earlier moment, by the clock that saw more."""
    return max(now - then for now, then in zip(_now(), earlier, strict=True))


@contextlib.contextmanager
def hold(storage: Location, name: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of that name for the block. Raises LockedError, and StorageError."""
    deadline, pause = time.monotonic() + wait, 1.0
    lease = Lease(storage, name)
    while reason := lease.acquire():
        left = deadline - time.monotonic()
        if left <= 0:
            raise LockedError(f"{storage}: {reason}")
        time.sleep(min(random.uniform(0.5, 1) * pause, left))
        pause = min(pause * 1.5, MAX_PAUSE)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lease, ended), daemon=True)
    _held.append(lease)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        _held.remove(lease)
        try:
            lease.release()
        except (StorageError, OSError) as error:  # the block has its own result or error
            log.warning("%s: its lock could not be removed, and expires: %s", storage, error)


def check(storage: Location, name: str) -> None:
    """Raise LockedError if a lock of this process over a file is no longer its own."""
    for lease in list(_held):
        if lease.covers(storage, name):
            lease.check()


def _renew(lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(RENEWAL_SECONDS) and not lease.is_lost:
        try:
            lease.renew()
        except (StorageError, OSError) as error:
            log.warning("%s: the lock could not be renewed: %s", lease.storage, error)


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
