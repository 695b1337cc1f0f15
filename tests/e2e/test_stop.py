"""`visionflows up` stopped or killed during a run: the run is marked and resumed."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_fixtures import fill
from serving import Served, served

pytest_plugins = ["e2e_fixtures"]
# A shard of 20 images of batch size 1 takes a twentieth of a second: slow enough to interrupt.
SLOW = {"batch_size": 1, "workers": 1, "shard_size": 20, "engine": "torch"}
JOB = {"input": "many", "model": "shapes", "output": "scores", "settings": SLOW}


@contextlib.contextmanager
def in_mid_run(folder: Path, store: Path) -> Iterator[tuple[Served, str]]:
    """A server with a run in the middle of scoring."""
    with served(folder, store) as server:
        before = parts(folder)
        run = server.start("score", **JOB)
        deadline = time.monotonic() + 200
        while len(parts(folder)) < len(before) + 3:
            assert time.monotonic() < deadline, server.logs(run)
            time.sleep(0.1)
        yield server, run


def parts(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("scores/parts/part-*.json")}


def ended(server: Served, family: list[int]) -> float:
    """Seconds until the process and all its descendants have ended."""
    begun = time.monotonic()
    server.process.wait(timeout=20)
    while [pid for pid in family if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() - begun < 20
        time.sleep(0.1)
    return time.monotonic() - begun


@pytest.mark.timeout(900)
def test_runs_are_marked_at_the_stop_and_the_next_one_resumes(trained, tmp_path):
    fill(tmp_path / "many", 1500)
    runs, done = {}, {}
    for number, all_at_once in ((signal.SIGHUP, 0), (signal.SIGKILL, 0), (signal.SIGKILL, 1)):
        with in_mid_run(tmp_path, trained.store) as (server, run):
            family = server.pids("")
            assert len(family) >= 4  # supervisor, server, worker, run
            os.killpg(server.process.pid, number)
            for pid in family if all_at_once else ():  # like a power cut
                os.kill(pid, number)
            assert ended(server, family) < 15  # ten, and five more for a busy machine
            runs[number, all_at_once] = run
            assert {name: parts(tmp_path)[name] for name in done} == done  # none scored again
            done = parts(tmp_path)
        if not all_at_once:
            output = (tmp_path / "up.log").read_text()
            assert output.endswith("stopped; 1 run(s) interrupted: run them again\n")
    with served(tmp_path, trained.store) as server:
        for run in runs.values():
            state = server.run(run)["state"]
            assert state["name"] == "Crashed"
            assert "stopped during this run" in state["message"]
        server.wait(server.start("score", **JOB), "Completed")
        assert {name: parts(tmp_path)[name] for name in done} == done
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=15) == 143
