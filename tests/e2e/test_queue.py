"""Runs in the queue of a worker: it dies, an output is in use, a parameter is unknown."""

import datetime
import os
import signal
import time

from serving import Served, wait_until

from visionflows.storage.local import LocalStorage

pytest_plugins = ["e2e_fixtures"]


def test_a_run_that_was_pending_when_its_worker_was_killed_is_reported(server: Served):
    """Its process has not begun, so that it has no heartbeat, and holds the only slot."""
    run = server.start("score", input="inbox", model="shapes", output="scores/pending")
    engines = wait_until(lambda: server.pids("cli.prefect engine"))
    for pid in engines:
        os.kill(pid, signal.SIGSTOP)  # it is still importing
    assert server.run(run)["state"]["type"] == "PENDING"
    for pid in (*server.pids("worker start"), *engines):
        os.kill(pid, signal.SIGKILL)
    server.wait(run, "Crashed", seconds=80)
    assert server.run(run)["state"]["message"].startswith("Its worker stopped during this run")
    calls(server, run, 1)
    assert slots(server) == 0
    again = server.start("score", input="inbox", model="shapes", output="scores/pending")
    server.wait(again, "Completed")  # by the new worker
    assert "the worker died and is restarted: killed (SIGKILL" in log(server)


def test_a_run_that_waits_for_an_output_lets_others_run(server: Served):
    output = server.folder / "scores/locked"
    settings = {"wait": 600}
    with LocalStorage(output).lock(".lock"):
        waiting = server.start(
            "score", input="inbox", model="shapes", output="scores/locked", settings=settings
        )
        found = server.wait(waiting, "AwaitingOutput")
        assert "another run is writing here" in found["state"]["message"]
        assert slots(server) == 0
        other = server.start("score", input="inbox", model="shapes", output="scores/free")
        server.wait(other, "Completed")
        assert server.run(waiting)["state"]["name"] == "AwaitingOutput"
        assert "back in the queue for up to 600 s" in server.logs(waiting)
    run_now(server, waiting)
    assert server.wait(waiting, "Completed")["start_time"] == found["start_time"]
    assert (output / "run.json").exists()


def test_an_unknown_parameter_is_named_in_the_state(server: Served):
    run = server.start("score", input="inbox", model="shapes", no_such=1)
    message = server.wait(run, "Failed", seconds=60)["state"]["message"]
    assert message.startswith("no_such: score has no such parameter; it has input, model,")
    assert calls(server, run, 1)[0]["message"] == message


def calls(server: Served, run: str, count: int) -> list[dict]:
    """What the webhook got about a run, when it has got so much."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [call for call in server.webhook_calls if call["run_id"] == run]
        if len(found) >= count:
            break
        time.sleep(0.2)
    assert len(found) == count
    return found


def run_now(server: Served, run: str) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": now}}
    body = {"state": state, "force": True}
    server.api.post(f"/flow_runs/{run}/set_state", json=body).raise_for_status()


def slots(server: Served) -> int:
    return server.api.get("/v2/concurrency_limits/visionflows-gpu").json()["active_slots"]


def log(server: Served) -> str:
    return (server.folder / "up.log").read_text(encoding="utf-8")
