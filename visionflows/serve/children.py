"""Long-running programs of ours: started with a log each, and stopped with all that they started.

    with Children(Path("logs")) as children:
        children.start("server", [sys.executable, "-m", "prefect", "server", "start"], env)
        children.exited()        # the names of those that have ended by themselves

Prefect's worker gives every flow run a session of its own, so that a signal to the worker's group
does not reach it. On Linux this process therefore becomes the reaper of its orphans, and /proc
tells who descends from whom: nothing stays behind. Elsewhere only the programs themselves and
their groups are stopped.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Children:
    """Programs by name, in the order they were started; they are stopped in the reverse order."""

    def __init__(self, logs: Path, patience: float = 20.0):
        self.logs, self.patience = logs, patience
        self.running: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Children":
        self.logs.mkdir(parents=True, exist_ok=True)
        _adopt_orphans()
        return self

    def __exit__(self, *_) -> None:
        for name in reversed(list(self.running)):
            self.stop(name)

    def log(self, name: str) -> Path:
        """Where a program's output goes; what it said last time is kept beside it."""
        return self.logs / f"{name}.log"

    def start(self, name: str, command: list[str], env: dict[str, str]) -> None:
        """Start a program in a session of its own, so that Ctrl-C reaches only us."""
        log = self.log(name)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        with log.open("wb") as output:
            self.running[name] = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def exited(self) -> list[str]:
        """The programs that have ended without being told to."""
        return [name for name, child in self.running.items() if child.poll() is not None]

    def stop(self, name: str) -> None:
        """End a program and its descendants: asked first, after `patience` seconds made to."""
        child = self.running.pop(name)
        family = {child.pid, *descendants(child.pid)}
        _send(signal.SIGTERM, {child.pid})
        time.sleep(0.5)  # a worker that was asked takes no new run; then its runs are asked
        _send(signal.SIGTERM, family - {child.pid})
        if not _gone(child, family, self.patience):
            family |= {pid for one in family for pid in descendants(one)}
            _send(signal.SIGKILL, family)
            _gone(child, family, 5)


def descendants(pid: int) -> set[int]:
    """The processes that descend from one, as /proc has them; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The command, in parentheses, may hold anything; the parent is the second word after.
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found, left = set(), [pid]
    while left:
        mine = children.get(left.pop(), [])
        found.update(mine)
        left += mine
    return found


def _adopt_orphans() -> None:
    with contextlib.suppress(OSError, AttributeError):  # no prctl outside Linux
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _send(number: int, pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _gone(child: subprocess.Popen, family: set[int], seconds: float) -> bool:
    """Whether all of them have ended within so many seconds."""
    deadline = time.monotonic() + seconds
    while child.poll() is None or _alive(family):
        if time.monotonic() > deadline:
            return False
        _reap(family - {child.pid})
        time.sleep(0.1)
    return True


def _alive(pids: set[int]) -> bool:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return True
    return False


def _reap(pids: set[int]) -> None:
    """Let go of adopted orphans that have ended; they would stay zombies."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            os.waitpid(pid, os.WNOHANG)
