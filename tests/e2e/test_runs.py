"""Runs on a real server and worker: by API, UI, schedule and event, and interrupted runs.

python -m pytest tests/e2e
"""

import contextlib
import csv
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from e2e_fixtures import OWN
from serving import PROGRAM, announce, environment, wait_until
from stopping import pending_signals

pytest_plugins = ["e2e_fixtures"]

# A shard of 20 images of batch size 1 takes a twentieth of a second: slow enough to interrupt.
SLOW = {"batch_size": 1, "workers": 1, "shard_size": 20, "engine": "torch"}


@pytest.fixture(scope="module")
def whole(server, trained, tmp_path_factory) -> bytes:
    """predictions.csv of the many images, scored in one run without Prefect."""
    from visionflows.scoring.local_run import score_folder
    from visionflows.scoring.settings import ScoreSettings

    output = tmp_path_factory.mktemp("whole") / "scores"
    source = str(server.folder / "many")
    score_folder(source, "shapes", str(output), trained.store, ScoreSettings(**SLOW))
    return (output / "predictions.csv").read_bytes()


def rows(path: Path) -> list[dict]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_through_the_api_leaves_its_csv_and_its_artifacts(server):
    run = server.start("score", input="inbox", model="shapes", output="scores/api")
    assert server.wait(run, "Completed")["name"] == "score inbox with shapes"
    assert len(rows(server.folder / "scores/api/predictions.csv")) == 6
    left = server.artifacts(run)
    assert left["progress"] == [100.0]
    summary = left["markdown"][0]
    assert "6 files found = 6 ok + 0 failed" in summary
    assert "scores/api/predictions.csv" in summary
    assert f"report.html: `{server.folder}/scores/api/report.html`" in summary
    assert "### Timings" in summary


def test_files_in_the_workers_folder_are_never_imported(server):
    """The user's `tasks/` and `flows/`: relative paths start there, imports do not."""
    assert all((server.folder / name).read_text().startswith("raise") for name in OWN)
    run = server.start("score", input="inbox", model="shapes", output="scores/own")
    server.wait(run, "Completed")
    assert not list(server.folder.rglob("__pycache__"))


def test_a_run_through_the_form_of_the_ui(server, page):
    page.goto(f"{server.url}/deployments/deployment/{server.deployment('score')['id']}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()

    def field(label):
        return page.locator(f'.p-label:has(> .p-label__header :text-is("{label}"))').last

    for label, value in (("input", "inbox"), ("model", "shapes"), ("output (Optional)", "ui")):
        field(label).get_by_role("textbox").fill(value)
    field("Max Error Rate (Optional)").get_by_role("spinbutton").fill("2")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("2 is greater than the maximum of 1").first.wait_for()
    field("Max Error Rate (Optional)").get_by_role("spinbutton").fill("0.5")
    run = _submitted(server, page)
    page.goto(f"{server.url}/runs/flow-run/{run['id']}")  # the toasts of the form keep moving
    page.get_by_text("Completed", exact=True).first.wait_for()
    page.get_by_text("Artifacts", exact=True).click()
    page.get_by_text("Scoring summary").first.wait_for()
    assert len(rows(server.folder / "ui/predictions.csv")) == 6


def test_a_schedule_starts_a_run(server):
    """The schedule is created like in the UI; that of the file is at night."""
    deployment = server.deployment("score")
    nightly = {schedule["slug"]: schedule for schedule in deployment["schedules"]}["nightly"]
    assert nightly["active"]
    assert nightly["schedule"]["timezone"] == "Europe/Berlin"
    body = {
        "schedule": {"cron": "* * * * *", "timezone": "Europe/Berlin"},
        "active": True,
        "parameters": {"model": "shapes", "output": "scores/scheduled"},
    }
    path = f"/deployments/{deployment['id']}/schedules"
    made = server.api.post(path, json=[body]).json()[0]
    try:
        run = wait_until(lambda: _begun(server, "scores/scheduled"))
    finally:
        server.api.delete(f"{path}/{made['id']}").raise_for_status()
    assert "auto-scheduled" in server.wait(run["id"], "Completed")["tags"]
    assert len(rows(server.folder / "scores/scheduled/predictions.csv")) == 6


def test_promoting_a_model_starts_a_scoring_run(server, trained):
    command_line(server, "models", "promote", "shapes@latest", "--store", trained.store)
    run = wait_until(lambda: _by_parameter(server, "model", "shapes@production"))
    assert server.wait(run["id"], "Completed")["created_by"]["type"] == "AUTOMATION"
    assert run["parameters"]["store"] == str(trained.store)
    assert len(rows(server.folder / "scores/inbox/predictions.csv")) == 6


def test_an_announced_batch_is_scored(server, trained):
    """With the deployment's model, whose default is changed to the existing one."""
    patch = {"parameters": {**server.deployment("score")["parameters"], "model": "shapes"}}
    server.api.patch(f"/deployments/{server.deployment('score')['id']}", json=patch)
    resource = {"prefect.resource.id": "visionflows.batch.monday"}
    for storage, output in (("inbox", "scores/monday"), ("many", "")):
        announce(server, resource, {"location": storage, **({"output": output} if output else {})})
    first = wait_until(lambda: _by_parameter(server, "output", "scores/monday"))
    second = wait_until(lambda: _by_parameter(server, "input", "many"))
    server.wait(first["id"], "Completed")
    server.wait(second["id"], "Completed")
    assert len(rows(server.folder / "scores/monday/predictions.csv")) == 6
    own = list(Path(trained.store).glob("scores/*/predictions.csv"))
    assert [len(rows(path)) for path in own] == [1500]  # no output was named: a new folder


@pytest.mark.parametrize("payload", [{}, {"location": None, "output": None}])
def test_an_announced_batch_without_a_location_is_a_failed_run_with_a_reason(server, payload):
    before = {run["id"] for run in server.runs("score")}
    announce(server, {"prefect.resource.id": "visionflows.batch.nowhere"}, payload)
    run = wait_until(lambda: {run["id"] for run in server.runs("score")} - before).pop()
    message = server.wait(run, "Failed")["state"]["message"]
    assert "input: empty; name a folder (the `location` of an announced batch)" in message
    assert_failure_reported(server, run)


def test_a_wrong_setting_fails_before_any_work_with_a_reason(server):
    run = server.start("score", input="inbox", model="no-such", output="scores/wrong")
    state = server.wait(run, "Failed")["state"]
    assert "no-such: no such model" in state["message"]
    # A run sends its last log lines a moment after its state.
    wait_until(lambda: "no-such: no such model" in server.logs(run))
    assert "Traceback" not in server.logs(run)

    assert_failure_reported(server, run)
    refused = server.api.post(
        f"/deployments/{server.deployment('score')['id']}/create_flow_run",
        json={"parameters": {"input": "inbox", "model": "m", "settings": {"shard_size": 0}}},
    )
    assert refused.status_code == 409
    assert "shard_size" in refused.text


def test_cancelling_in_the_ui_stops_within_seconds_and_the_next_run_resumes(server, page, whole):
    run, parts = start_slow(server, "scores/cancelled")
    with suspended(server):  # however long the page takes
        page.goto(f"{server.url}/runs/flow-run/{run}")
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Confirm").click()
        wait_until(lambda: server.run(run)["state"]["name"] == "Cancelling")
    asked = time.monotonic()
    server.wait(run, "Cancelled")
    assert time.monotonic() - asked < 20
    wait_until(lambda: not turns(server))
    assert_resumes(server, "scores/cancelled", parts, whole)


def test_a_cancelled_run_releases_its_slot_once(server):
    """Otherwise it would again when its lease expires, while another run has the slot."""
    run, _ = start_slow(server, "scores/turn")
    assert len(turns(server)) == 1
    asked = {"state": {"type": "CANCELLING"}, "force": True}  # like the UI
    server.api.post(f"/flow_runs/{run}/set_state", json=asked).raise_for_status()
    server.wait(run, "Cancelled")
    wait_until(lambda: not turns(server))


def test_a_killed_worker_crashes_its_run_and_a_retry_resumes(server, page, whole):
    run, parts = start_slow(server, "scores/killed")
    for pid in server.pids("worker start"):
        os.kill(pid, signal.SIGKILL)
    server.wait(run, "Crashed")

    def retry() -> str:
        page.goto(f"{server.url}/runs/flow-run/{run}")
        page.get_by_role("button", name="Retry").click()
        page.get_by_role("dialog").get_by_role("button", name="Retry").click()
        wait_until(lambda: server.run(run)["state"]["name"] != "Crashed")
        return run

    assert_resumes(server, "scores/killed", parts, whole, retry)


def test_a_run_that_dies_with_its_worker_is_crashed_and_the_next_resumes(server, whole):
    """The restarted worker cannot know of it: `up` says so at once, not after 90 s."""
    run, parts = start_slow(server, "scores/silent")
    for pid in (*server.pids("worker start"), *server.pids("prefect engine")):
        os.kill(pid, signal.SIGKILL)
    assert "worker stopped" in server.wait(run, "Crashed", seconds=60)["state"]["message"]
    assert_failure_reported(server, run)
    assert_resumes(server, "scores/silent", parts, whole)


def test_of_two_runs_into_one_output_one_waits_and_both_complete(server, whole):
    both = [
        server.start("score", input="many", model="shapes", output="scores/two", settings=SLOW)
        for _ in range(2)
    ]
    wait_until(lambda: _states(server, both) == ["AwaitingConcurrencySlot", "Running"])
    for run in both:
        server.wait(run, "Completed")
    assert (server.folder / "scores/two/predictions.csv").read_bytes() == whole


@contextlib.contextmanager
def suspended(server):
    """Stop the process of the run inside the block, until the signal to end waits for it."""
    (engine,) = server.pids("prefect engine")
    os.kill(engine, signal.SIGSTOP)
    yield
    wait_until(lambda: signal.SIGTERM in pending_signals(engine))
    os.kill(engine, signal.SIGCONT)


def turns(server) -> list[Path]:
    """The leases of the shared concurrency limit."""
    return list((server.folder / "state/concurrency_leases").glob("*-*.json"))


def assert_failure_reported(server, run: str) -> None:
    """The event and the webhook of a failed or crashed run are sent once each."""

    def events() -> list[str]:
        return [event["payload"]["run_id"] for event in server.events("visionflows.run.failed")]

    wait_until(
        lambda: run in events() and run in [words["run_id"] for words in server.webhook_calls]
    )
    assert events().count(run) == 1
    assert [words["run_id"] for words in server.webhook_calls].count(run) == 1


def start_slow(server, output: str) -> tuple[str, set[str]]:
    """Start a slow run; return it with its finished parts."""
    run = server.start("score", input="many", model="shapes", output=output, settings=SLOW)
    parts = server.folder / output / "parts"
    wait_until(lambda: len(list(parts.glob("*.json"))) >= 5)
    return run, {path.name for path in parts.glob("part-*.json")}


def assert_resumes(server, output: str, parts: set[str], whole: bytes, again=None) -> None:
    """The next run into the output scores the rest, and the bytes equal an uninterrupted run."""
    folder = server.folder / output
    assert not (folder / "run.json").exists()
    before = {name: (folder / "parts" / name).stat().st_mtime_ns for name in parts}
    job = {"input": "many", "model": "shapes", "output": output, "settings": SLOW}
    run = again() if again else server.start("score", **job)
    server.wait(run, "Completed")
    wait_until(lambda: "of them already done" in server.logs(run))
    after = {name: (folder / "parts" / name).stat().st_mtime_ns for name in parts}
    assert after == before
    assert (folder / "predictions.csv").read_bytes() == whole


def command_line(server, *arguments) -> None:
    env = {**environment(), "PREFECT_API_URL": f"{server.url}/api"}
    command = [*PROGRAM, *map(str, arguments)]
    subprocess.run(command, check=True, env=env, cwd=server.folder)


def _submitted(server, page) -> dict:
    """The run of the filled form; a click while the form is still being checked is lost."""
    submit, clicked = page.get_by_role("button", name="Submit"), 0.0

    def run() -> dict | None:
        nonlocal clicked
        if submit.is_visible() and time.monotonic() > clicked + 10:
            submit.click()
            clicked = time.monotonic()
        return _by_parameter(server, "output", "ui")

    return wait_until(run)


def _by_parameter(server, name: str, value: str) -> dict | None:
    runs = server.runs("score")
    return next((run for run in runs if run["parameters"].get(name) == value), None)


def _begun(server, output: str) -> dict | None:
    """A started run into the output."""
    runs = (run for run in server.runs("score") if run["parameters"].get("output") == output)
    return next((run for run in runs if run["state"]["name"] not in ("Scheduled", "Late")), None)


def _states(server, runs: list[str]) -> list[str]:
    return sorted(server.run(run)["state"]["name"] for run in runs)
