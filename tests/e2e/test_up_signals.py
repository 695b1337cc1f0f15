"""Signals to `visionflows up` before it is ready."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from stopping import descendants


def test_a_signal_during_the_start_leaves_no_process(tmp_path):
    """Ctrl-C while the server creates its database."""
    process = started(tmp_path)
    family = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert output.endswith("stopped\n")
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]


def test_nohup_ignores_hangup(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # child processes inherit it
    try:
        process = started(tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[1]
    assert process.returncode == 143, output  # the first received signal


def started(folder: Path) -> subprocess.Popen[str]:
    """`visionflows up`, while it starts its server."""
    words = ("up", "--port", "0", "--state", str(folder / "s"))
    process = subprocess.Popen(
        [sys.executable, "-m", "visionflows.cli", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until((folder / "s/logs/server.log").exists)
    return process


def wait_until(found, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)
