"""Long-running programs of ours: started with a log each, and stopped with all that they started.

    with Children(Path("logs")) as children:
        children.start("server", [sys.executable, "-m", "prefect", "server", "start"], env)
        children.exited()        # the names of those that have ended by themselves

Prefect's worker and its runs start programs of their own, in sessions of their own. On Linux this
process therefore becomes the reaper of its orphans, and the table of processes tells who descends
from whom: nothing stays behind. What we start also looks after its parent (`end_with_parent`).
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType

UP = "VISIONFLOWS_UP"  # set for all that `visionflows up` starts
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Children:
    """Programs by name, in the order they were started; they are stopped in the reverse order."""

    def __init__(self, logs: Path, patience: float = 3.0):
        self.logs, self.patience = logs, patience
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Children":
        self.logs.mkdir(parents=True, exist_ok=True)
        adopt_orphans()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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

    def stop(self, name: str, patience: float = 0.0) -> set[int]:
        """End a program and its descendants, whose ids are returned: asked first, then made to."""
        child = self.running.pop(name)
        family = {child.pid, *descendants(child.pid)}
        _send(signal.SIGTERM, {child.pid})
        time.sleep(0.5)  # a worker that was asked takes no new run; then its runs are asked
        _send(signal.SIGTERM, family - {child.pid})
        if not _gone(family, patience or self.patience, child):
            family |= {pid for one in family for pid in descendants(one)}
            _send(signal.SIGKILL, family)
            _gone(family, 1, child)
        return family


def end_all(patience: float) -> None:
    """End every descendant of this process: asked first, after so many seconds made to."""
    family = descendants(os.getpid())
    _send(signal.SIGTERM, family)
    if not _gone(family, patience):
        family = descendants(os.getpid())
        _send(signal.SIGKILL, family)
        _gone(family, 1)


def end_with_parent(patience: float) -> None:
    """End this process soon after the one that started it, even where that one is killed.

    It is asked by SIGTERM, and after so many seconds made to. A thread looks twice a second:
    PR_SET_PDEATHSIG would tell of the end of the thread that started us, and only on Linux.
    """
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=look, daemon=True).start()


def descendants(pid: int) -> set[int]:
    """The processes that descend from one."""
    children: dict[int, list[int]] = {}
    for child, parent in _processes():
        children.setdefault(parent, []).append(child)
    found: set[int] = set()
    left = [pid]
    while left:
        mine = children.get(left.pop(), [])
        found.update(mine)
        left += mine
    return found


def _processes() -> list[tuple[int, int]]:
    """Every process and its parent: as /proc has them, elsewhere as `ps` does."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The command, in parentheses, may hold anything; the parent is the second word after.
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            found.append((int(stat.parent.name), parent))
    if not found:
        command = ["ps", "-A", "-o", "pid=,ppid="]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = [(int(one), int(two)) for one, two in map(str.split, lines.splitlines())]
    return found


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, where the system can (Linux)."""
    with contextlib.suppress(OSError, AttributeError):  # no prctl elsewhere
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _send(number: int, pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _gone(family: set[int], seconds: float, child: subprocess.Popen[bytes] | None = None) -> bool:
    """Whether all of them have ended within so many seconds."""
    deadline = time.monotonic() + seconds
    while (child and child.poll() is None) or _alive(family):
        if time.monotonic() > deadline:
            return False
        _reap(family - {child.pid if child else 0})
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
