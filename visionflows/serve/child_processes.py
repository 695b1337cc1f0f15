"""Start programs with a log each, and stop them with all descendants on exit, signal or crash.

Prefect's worker starts its runs in sessions of their own, so a process group does not hold them.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType

import psutil

from visionflows.serve.settings import UpError

UP = "VISIONFLOWS_UP"  # set for all processes of `visionflows up`
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
# Lines of SQLAlchemy, pydantic, Prefect and uvicorn after the one that says what is wrong.
_FOOTERS = (
    *("(Background on this error", "For further information visit", "An exception occurred."),
    *("ERROR:    Application startup failed", "INFO: "),
)


class ChildProcesses:
    """Running programs by name; leaving the context stops them in reverse order."""

    def __init__(self, logs: Path):
        self.logs = logs
        self.running: dict[str, psutil.Popen] = {}

    def __enter__(self) -> "ChildProcesses":
        self.logs.mkdir(parents=True, exist_ok=True)
        adopt_orphans()
        return self

    def __exit__(self, *_: object) -> None:
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
            self.running[name] = psutil.Popen(
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

    def describe_exit(self, name: str, event: str) -> str:
        """A message about a program that ended: the signal, or the last line of its log."""
        status = self.running[name].wait()
        if status >= 0:
            return last_line(self.log(name), event)
        killed = signal.Signals(-status).name
        reason = "; was memory short?" if -status == signal.SIGKILL else ""
        return f"{event}: killed ({killed}{reason}) (log: {self.log(name)})"

    def end_orphans(self, patience: float = 4.0) -> None:
        """End the processes that a program left when it died."""
        kept = {process for child in self.running.values() for process in _family(child)}
        orphans = [one for one in _descendants(psutil.Process()) if one not in kept]
        for number, timeout in ((signal.SIGTERM, patience), (signal.SIGKILL, 1)):
            _send(number, orphans)
            _, orphans = psutil.wait_procs(orphans, timeout)

    def stop(self, name: str, patience: float = 3.0) -> set[int]:
        """Terminate a program and its descendants, then kill them; their ids are returned."""
        child = self.running.pop(name)
        family = _family(child)
        _send(signal.SIGTERM, [child])
        time.sleep(0.5)  # the worker accepts no new run; then its runs are terminated
        _send(signal.SIGTERM, family[1:])
        _, alive = psutil.wait_procs(family, patience)
        if alive:
            family += [below for process in alive for below in _descendants(process)]
            _send(signal.SIGKILL, family)
            psutil.wait_procs(family, 1)
        return {process.pid for process in family}


def last_line(log: Path, event: str) -> str:
    """A message about a program that failed, with the last line of its log."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = (line.strip() for line in reversed(lines))
    last = next((line for line in said if line and not line.startswith(_FOOTERS)), "")
    return f"{event}: {last or 'it printed nothing'} (log: {log})"


def end_descendants(patience: float) -> None:
    """Terminate every descendant of this process; kill them after `patience` seconds."""
    for number, timeout in ((signal.SIGTERM, patience), (signal.SIGKILL, 1)):
        family = _descendants(psutil.Process())
        _send(number, family)
        psutil.wait_procs(family, timeout)


def end_with_parent(patience: float, parent: int = 0) -> None:
    """Terminate this process when its parent has ended; kill it after `patience` seconds.

    `parent` is its id, which a fork knows for certain; by default that of the present one. A thread
    polls twice a second: PR_SET_PDEATHSIG reports the end of the thread that started us, and only
    on Linux.
    """
    parent = parent or os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants, where the system can (Linux)."""
    with contextlib.suppress(OSError, AttributeError):  # no prctl elsewhere
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *_descendants(process)]


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended, and is reaped
        return list(process.children(recursive=True))
    return []


def _send(number: int, processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


@contextlib.contextmanager
def supervised() -> Iterator[None]:
    """Run the block in a child process; the calling process waits and exits with its status.

    The status is 130, 143 or 129 after INT, TERM or HUP; later signals are ignored. A signal that
    is ignored from the start, as by nohup, stays ignored. If the waiting process is killed, the
    child stops. If the child is killed, the waiting process ends all its descendants.
    """
    signals = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # none is lost before the handlers are set
    signal.set_wakeup_fd(-1)  # the command line ends a stopped command soon; stopping takes longer
    adopt_orphans()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child:
        _wait(child, signals)
    os.setsid()
    end_with_parent(patience=15, parent=parent)  # its thread gets none of the signals
    _exit_on(signals)
    yield


def _exit_on(signals: list[signal.Signals]) -> None:
    def stop(number: int, _: FrameType | None) -> None:
        for one in signals:  # a second signal must not interrupt the stopping
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in signals:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def _wait(child: int, signals: list[signal.Signals]) -> None:
    """Raises SystemExit with the child's status, and UpError if it was killed."""

    def forward(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in signals:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status >= 0:
        raise SystemExit(status)
    end_descendants(patience=3)
    raise UpError(f"killed ({signal.Signals(-status).name}); all its processes were ended")
