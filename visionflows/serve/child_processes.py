"""Start programs with a log each, and stop them with all their descendants.

    with ChildProcesses(Path("logs")) as children:
        children.start("server", [sys.executable, "-m", "prefect", "server", "start"], env)
        children.exited()        # the names of those that have exited

Prefect's worker starts its runs in sessions of their own. On Linux this process therefore adopts
orphaned descendants, and the process table gives the descendants. Programs of ours also watch their
parent (`end_with_parent`).
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

UP = "VISIONFLOWS_UP"  # set for all processes of `visionflows up`
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class ChildProcesses:
    """Running programs by name; leaving the context stops them in reverse order."""

    def __init__(self, logs: Path, patience: float = 3.0):
        self.logs, self.patience = logs, patience
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "ChildProcesses":
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
        """The log of a program; its previous log has the suffix .log.1."""
        return self.logs / f"{name}.log"

    def start(self, name: str, command: list[str], env: dict[str, str]) -> None:
        """Start a program in a new session, so that Ctrl-C reaches only this process."""
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
        """The names of the programs that have exited."""
        return [name for name, child in self.running.items() if child.poll() is not None]

    def stop(self, name: str, patience: float = 0.0) -> set[int]:
        """Terminate a program and its descendants, then kill them; their ids are returned."""
        child = self.running.pop(name)
        family = {child.pid, *descendants(child.pid)}
        _send(signal.SIGTERM, {child.pid})
        time.sleep(0.5)  # the worker accepts no new run; then its runs are terminated
        _send(signal.SIGTERM, family - {child.pid})
        if not _wait_gone(family, patience or self.patience, child):
            family |= {pid for one in family for pid in descendants(one)}
            _send(signal.SIGKILL, family)
            _wait_gone(family, 1, child)
        return family


def last_line(log: Path, event: str) -> str:
    """A message about a program that failed, with the last line of its log."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{event}: {lines[-1] if lines else 'it printed nothing'} (log: {log})"


def end_descendants(patience: float) -> None:
    """Terminate every descendant of this process; kill them after `patience` seconds."""
    family = descendants(os.getpid())
    _send(signal.SIGTERM, family)
    if not _wait_gone(family, patience):
        family = descendants(os.getpid())
        _send(signal.SIGKILL, family)
        _wait_gone(family, 1)


def end_with_parent(patience: float) -> None:
    """Terminate this process when its parent has ended; kill it after `patience` seconds.

    A thread polls twice a second: PR_SET_PDEATHSIG reports the end of the thread that started us,
    and only on Linux.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def descendants(pid: int) -> set[int]:
    """The ids of all processes below one."""
    children: dict[int, list[int]] = {}
    for child, parent in _processes():
        children.setdefault(parent, []).append(child)
    found: set[int] = set()
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found.update(below)
        pending += below
    return found


def _processes() -> list[tuple[int, int]]:
    """Every process and its parent, from /proc or `ps`."""
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
    """Become the parent of orphaned descendants, where the system can (Linux)."""
    with contextlib.suppress(OSError, AttributeError):  # no prctl elsewhere
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _send(number: int, pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait_gone(
    family: set[int], seconds: float, child: subprocess.Popen[bytes] | None = None
) -> bool:
    """Whether all of them end within so many seconds."""
    deadline = time.monotonic() + seconds
    while (child and child.poll() is None) or any(map(_is_alive, family)):
        if time.monotonic() > deadline:
            return False
        _reap(family - {child.pid if child else 0})
        time.sleep(0.1)
    return True


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def _reap(pids: set[int]) -> None:
    """Reap adopted orphans that have ended; they would stay zombies."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            os.waitpid(pid, os.WNOHANG)
