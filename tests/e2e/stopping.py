"""Run a command in its own terminal or process group, send signals, and see what is left.

with started("score", "inbox", "--model", "shapes", env=env) as command:
    command.signal(signal.SIGTERM)
    assert command.ended() == 143
"""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
LONG = 100  # timeout in seconds, also for slow machines


def environment(**more: str) -> dict[str, str]:
    """An environment for a command, without the user's Prefect settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **more}


class Command:
    """`visionflows` with these arguments, in its own process group and terminal."""

    def __init__(self, words: tuple[str, ...], env: dict[str, str], cwd: Path):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            program = [sys.executable, "-m", "visionflows.cli", *map(str, words)]
            os.execve(sys.executable, program, env)
        self.output, self.family, self._status = b"", {self.pid}, None

    def when(self, true: Callable[[], object]) -> None:
        """Wait until a condition holds while the command runs."""
        deadline = time.monotonic() + 280
        while not true():
            assert time.monotonic() < deadline, self.text
            assert self._poll() is None, f"ended with {self._status}: {self.text}"
            self._read(0.02)
        self.family |= descendants(self.pid)

    def type(self, key: bytes) -> None:
        """Type into the terminal, for example Ctrl-C."""
        os.write(self.terminal, key)

    def signal(self, number: int) -> None:
        """Send a signal to the command only."""
        os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process group of the command."""
        os.killpg(self.pid, number)

    def ended(self, within: float = LONG) -> int:
        """Wait for the end, and return the exit status of a shell."""
        deadline = time.monotonic() + within
        while self._poll() is None:
            assert time.monotonic() < deadline, f"still there: {self.text}"
            self._read(0.02)
        while self._read(0.2):
            pass
        return self._status

    @property
    def text(self) -> str:
        return self.output.decode(errors="replace").replace("\r", "")

    @property
    def lines(self) -> list[str]:
        """The lines of visionflows; the last one is the outcome."""
        return [
            line[line.index("visionflows: ") :]
            for line in self.text.split("\n")
            if "visionflows: " in line
        ]

    def left(self) -> list[str]:
        """The child processes that are still alive a moment after the command."""
        deadline = time.monotonic() + 20
        while (
            alive := [pid for pid in self.family if _alive(pid)]
        ) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [
            Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")
            for pid in alive
        ]

    def _poll(self) -> int | None:
        if self._status is None:
            self.family |= descendants(self.pid)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._status = 128 - code if code < 0 else code
        return self._status

    def _read(self, seconds: float) -> bool:
        with contextlib.suppress(OSError):  # the other end of the terminal is closed
            if select.select([self.terminal], [], [], seconds)[0]:
                data = os.read(self.terminal, 65536)
                self.output += data
                return bool(data)
        return False


@contextlib.contextmanager
def started(*words: object, env: dict[str, str], cwd: Path) -> Iterator[Command]:
    """Start a command; kill it at the end of the block if it still runs."""
    command = Command(tuple(map(str, words)), env, cwd)
    try:
        yield command
    finally:
        for pid in command.family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(command.pid, 0)
        os.close(command.terminal)


def descendants(pid: int) -> set[int]:
    """The IDs of all descendants of a process."""
    return {process.pid for process in psutil.Process(pid).children(recursive=True)}


def pending_signals(pid: int) -> set[int]:
    """The signals that a stopped process gets when it goes on."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    masks = re.findall(r"^(?:Sig|Shd)Pnd:\s*(\w+)", status, re.MULTILINE)
    return {number for number in range(1, 65) if any(int(m, 16) >> number - 1 & 1 for m in masks)}


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            != "Z"
        )
    return False


def locked(path: Path) -> bool:
    """Whether a lock file is held."""
    import fcntl

    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def checkpoints(folder: Path) -> list[str]:
    """The temporary files of unfinished writes."""
    return [path.name for path in folder.rglob(".writing-*")]


def ran(*words: object, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, without a terminal."""
    program = [sys.executable, "-m", "visionflows.cli", *map(str, words)]
    return subprocess.run(program, env=env, cwd=cwd, capture_output=True, text=True, check=False)
