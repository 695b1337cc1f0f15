"""`visionflows up` in a subprocess, and the actions of a user or the UI.

with served(folder, store) as server:
    run = server.start("score", input="inbox", model="shapes", output="scores/a")
    server.wait(run, "Completed")
"""

import contextlib
import dataclasses
import datetime
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from visionflows.serve.api import api_client

# Like the installed program: the working folder is not on its import path.
PROGRAM = (sys.executable, "-P", "-m", "visionflows.cli")
ENDED = ("Completed", "Failed", "Crashed", "Cancelled")


@dataclasses.dataclass
class Served:
    """A server with its worker: its process and API client."""

    process: subprocess.Popen
    url: str
    folder: Path  # the worker's folder: relative paths start here
    api: httpx.Client
    webhook_calls: list[dict] = dataclasses.field(default_factory=list)  # received by its webhook

    def deployment(self, name: str) -> dict:
        return self._json("GET", f"/deployments/name/{name}/{name}")

    def start(self, name: str, **parameters) -> str:
        """Create a run like the Run button of the UI, and return its ID."""
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        deployment = self.deployment(name)["id"]
        return self._json("POST", f"/deployments/{deployment}/create_flow_run", body)["id"]

    def run(self, run: str) -> dict:
        return self._json("GET", f"/flow_runs/{run}")

    def runs(self, name: str) -> list[dict]:
        """The runs of a deployment, newest first, without those scheduled for the future."""
        soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=5)
        only = {
            "deployments": {"name": {"any_": [name]}},
            "flow_runs": {"expected_start_time": {"before_": soon.isoformat()}},
            "sort": "EXPECTED_START_TIME_DESC",
        }
        return self._json("POST", "/flow_runs/filter", only)

    def wait(self, run: str, *states: str, seconds: float = 240) -> dict:
        """Wait until the run is in one of these states; fail on another final state.

        An answer that does not come (SQLite serves one writer at a time) is asked for again.
        """
        deadline, name, message = time.monotonic() + seconds, "no answer", None
        while time.monotonic() < deadline:
            try:
                found = self.run(run)
            except httpx.ReadTimeout:
                continue
            name, message = found["state"]["name"], found["state"]["message"]
            if name in states:
                return found
            assert name not in ENDED, f"{found['name']}: {name}: {message}\n{self.logs(run)}"
            time.sleep(0.2)
        raise AssertionError(f"not {states} within {seconds} s, but {name}: {message}")

    def logs(self, run: str) -> str:
        only = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
        return "\n".join(line["message"] for line in self._json("POST", "/logs/filter", only))

    def artifacts(self, run: str) -> dict[str, list]:
        """The artifacts of a run, by type."""
        only = {"artifacts": {"flow_run_id": {"any_": [run]}}}
        found = {}
        for artifact in self._json("POST", "/artifacts/filter", only):
            found.setdefault(artifact["type"], []).append(artifact["data"])
        return found

    def events(self, name: str) -> list[dict]:
        only = {"filter": {"event": {"name": [name]}}}
        return self._json("POST", "/events/filter", only)["events"]

    def pids(self, words: str) -> list[int]:
        """The child processes whose command line has these words."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if words in " ".join(process.cmdline()):
                    found.append(process.pid)
        return found

    def stop(self) -> str:
        """Send Ctrl-C, and return the log of `up`."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=120)
        return (self.folder / "up.log").read_text()

    def _json(self, method: str, path: str, body: dict | None = None):
        answer = self.api.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json()


@contextlib.contextmanager
def served(folder: Path, store: Path, *options: str, password: str = "", **env) -> Iterator[Served]:
    """Run `visionflows up` on a free port in `folder` inside the block."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "up.log"
    words = ("--port", "0", "--state", str(folder / "state"), "--store", str(store), *options)
    with log.open("w") as output:
        process = subprocess.Popen(
            [*PROGRAM, "up", *words],
            cwd=folder,
            env={**environment(), "VISIONFLOWS_PASSWORD": password, **env},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = _ready(process, log)
        env = {"PREFECT_API_URL": f"{url}/api", "PREFECT_API_AUTH_STRING": f"admin:{password}"}
        with api_client(env, timeout=60) as client:
            yield Served(process, url, folder, client)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


def announce(server, resource: dict, payload: dict) -> None:
    """Send the event with one POST."""
    event = {
        "occurred": datetime.datetime.now(datetime.UTC).isoformat(),
        "id": str(uuid.uuid4()),
        "event": "visionflows.batch.announced",
        "resource": resource,
        "payload": payload,
    }
    server.api.post("/events", json=[event]).raise_for_status()


def wait_until(found, seconds: float = 120):
    """Wait until `found` returns a true value, and return it."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return result


def environment() -> dict[str, str]:
    """An environment where our commands are found, without the user's settings."""
    ours = str(Path(__file__).parents[2])
    env = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    path = os.pathsep.join(
        filter(None, [ours, env.get("PYTHONPATH")])
    )  # an empty one means the working folder
    # Seconds between two tries of a run that waits for its turn.
    turn = {"PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2"}
    return {**env, "PYTHONPATH": path, **turn}


def _ready(process: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"ready at (http\S+)", log.read_text(encoding="utf-8"))
        if found:
            return found[1].replace("localhost", "127.0.0.1")
        time.sleep(0.2)
    raise AssertionError(f"not ready: {log.read_text(encoding='utf-8')}")
