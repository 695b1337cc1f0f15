"""Child processes end with each signal, with the terminal, and when a process is killed."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stopping import descendants

# A worker whose run has its own session and ignores SIGTERM; both watch their parents.
RUN = """
import signal, sys, time
from visionflows.serve.child_processes import end_with_parent
end_with_parent(1)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
time.sleep(99)"""
WORKER = f"""
import subprocess, sys, time
from visionflows.serve.child_processes import end_with_parent
end_with_parent(1)
subprocess.Popen([sys.executable, "-c", {RUN!r}, sys.argv[1]], start_new_session=True)
time.sleep(99)"""
PROGRAM = f"""
import os, sys, time
from pathlib import Path
from visionflows.errors import VisionflowsError
from visionflows.serve.child_processes import ChildProcesses, supervised
folder = Path(sys.argv[1])
try:
    with supervised(), ChildProcesses(folder) as children:
        command = [sys.executable, "-c", {WORKER!r}, str(folder / "runs")]
        children.start("worker", command, dict(os.environ))
        time.sleep(99)
except VisionflowsError as error:
    sys.exit(str(error))
"""
WAYS = ("one", "group", "three")
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[str], set[int]]]:
    """Start the program; return it with the IDs of all its processes once they run."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)],
        env=environment(),
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        wait_until((folder / "runs").exists)
        yield process, descendants(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", STATUS)
def test_a_signal_ends_all_processes_with_its_status(tmp_path, way, number):
    with running(tmp_path) as (process, family):
        assert len(family) == 3
        for _ in range(3 if way == "three" else 1):
            (os.killpg if way == "group" else os.kill)(process.pid, number)
            time.sleep(0.2)
        assert process.wait(timeout=60) == STATUS[number]
        assert alive(family) == set()
        assert process.stderr.read() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_closing_the_terminal_end_all_processes(tmp_path, number):
    pid, terminal = pty.fork()
    if not pid:
        os.execve(sys.executable, [sys.executable, "-c", PROGRAM, str(tmp_path)], environment())
    wait_until((tmp_path / "runs").exists)
    family = descendants(pid)
    if number == signal.SIGINT:
        os.write(terminal, b"\x03\x03\x03")
    else:
        os.close(terminal)
    status = wait_until(lambda: os.waitpid(pid, os.WNOHANG), lambda found: found[0] == pid)[1]
    assert os.waitstatus_to_exitcode(status) == STATUS[number]
    assert alive(family) == set()


def test_signals_ignored_by_nohup_stay_ignored(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with running(tmp_path) as (process, family):
            process.send_signal(signal.SIGHUP)
            time.sleep(1)
            assert alive(family) == family
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 143
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("killed", ["the one that waits", "the one that works", "both", "worker"])
def test_a_killed_process_leaves_no_child(tmp_path, killed):
    with running(tmp_path) as (process, family):
        works = inner(process.pid)
        (worker,) = (pid for pid in family if pid != works and descendants(pid))
        victims = {
            "the one that waits": [process.pid],
            "the one that works": [works],
            "both": [process.pid, works],
            "worker": [worker],
        }[killed]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        ends = family - {works} if killed == "worker" else family
        wait_until(lambda: alive(ends), lambda left: not left, seconds=60)
        if killed == "the one that works":
            assert process.wait(timeout=60) == 1
            assert process.stderr.read() == ("killed (SIGKILL); all its processes were ended\n")


def inner(pid: int) -> int:
    """The child of the waiting process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return int(children[0])


def alive(pids: set[int]) -> set[int]:
    """The running processes, without zombies."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            state = (
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            )
            if state != "Z":
                found.add(pid)
    return found


def wait_until(
    look: Callable[[], object], right: Callable[[object], bool] = bool, seconds: float = 60
) -> object:
    deadline = time.monotonic() + seconds
    while not right(found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
