"""Who holds a lock: a process, told from every other one on this machine and elsewhere.

    from visionflows.storage.s3.lock_owner import is_dead, me
    is_dead(me())                                    # False

A process is known by its machine's boot, its view of processes (a container has one of its own),
its number and the moment it was started, as numbers are given again.
"""

import contextlib
import os
import socket
from pathlib import Path
from typing import Any


def me() -> dict[str, Any]:
    """This process, as JSON can hold it."""
    return {**_machine(), "host": socket.gethostname(), "pid": os.getpid(), "born": _born("self")}


def is_dead(owner: dict[str, Any]) -> bool:
    """Whether a process is known to have ended: of other machines nothing is known."""
    here = _machine()["machine"]
    return bool(here) and owner["machine"] == here and _born(owner["pid"]) != owner["born"]


def _machine() -> dict[str, str]:
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return {"machine": f"{boot} {os.readlink('/proc/self/ns/pid')}"}
    return {"machine": ""}


def _born(pid: int | str) -> str:
    """When a process was started, in ticks since boot; empty where there is none (or no /proc)."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
