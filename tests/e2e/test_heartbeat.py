"""Heartbeats of flow runs, and the rule that marks silent ones as crashed."""

import os
import signal

import prefect
import pytest
from events_seen import wait_for_event
from prefect.context import TaskRunContext
from prefect.server.events.schemas.automations import EventTrigger
from prefect.settings import get_current_settings, temporary_settings
from serving import wait_until
from stopping import environment, started

from visionflows.orchestration.steps import flow, step
from visionflows.serve.provision import SILENCE, zombie_rule

pytest_plugins = ["e2e_fixtures"]


@step(name="look", task_run_name="look")
def look() -> tuple[int | None, set[str]]:
    """The seconds between two heartbeats of this run, and the tags of this task run."""
    run = TaskRunContext.get().task_run
    return get_current_settings().flows.heartbeat_frequency, set(run.tags)


@flow(name="inner", flow_run_name="inner")
def inner() -> tuple[str, int | None, set[str]]:
    return (prefect.runtime.flow_run.id, *look())


@flow(name="outer", flow_run_name="outer")
def outer() -> list[tuple[str, int | None, set[str]]]:
    return [(prefect.runtime.flow_run.id, *look()), inner()]


@prefect.flow
def theirs() -> str:
    return prefect.runtime.flow_run.id


@pytest.mark.usefixtures("prefect_server")
def test_our_runs_send_heartbeats_in_time_and_only_they_are_covered():
    rule = EventTrigger.model_validate(zombie_rule().trigger.model_dump(mode="json"))
    before = get_current_settings().flows.heartbeat_frequency
    for run, every, tags in outer():
        assert every * 3 <= SILENCE.total_seconds()
        assert tags == set()  # for each, Prefect would ask its server at every task
        for event in ("heartbeat", "Completed"):
            assert rule.covers(
                wait_for_event(f"prefect.flow-run.{event}", f"prefect.flow-run.{run}")
            ), event
    other = wait_for_event("prefect.flow-run.heartbeat", f"prefect.flow-run.{theirs()}")
    assert not rule.covers(other)  # its next heartbeat comes after 180 s
    assert get_current_settings().flows.heartbeat_frequency == before


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("wished, kept", [(None, None), (30, 30), (600, 30)])
def test_the_heartbeat_is_frequent_enough_and_stays_disabled(wished, kept):
    with temporary_settings({"flows.heartbeat_frequency": wished}):
        assert {every for _, every, _ in outer()} == {kept}


def test_a_command_on_a_machine_that_dies_is_crashed_by_the_server(server, trained, tmp_path):
    """As in a power cut: after 90 s without a heartbeat only the server can say so."""
    output, many = tmp_path / "silent", server.folder / "many"
    words = ("score", many, "--model", "shapes", "--store", trained.store, "--output", output)
    slow = ("--batch-size", "1", "--workers", "1", "--shard-size", "20", "--engine", "torch")
    env = environment(PREFECT_API_URL=f"{server.url}/api")
    with started(*words, *slow, env=env, cwd=tmp_path) as command:
        command.when(lambda: list(output.glob("parts/part-*.json")))
        os.kill(command.pid, signal.SIGKILL)
    runs = server.api.post("/flow_runs/filter", json={}).json()
    (run,) = [one["id"] for one in runs if one["parameters"].get("output") == str(output)]
    assert "heartbeat" in server.wait(run, "Crashed", seconds=200)["state"]["message"]
    wait_until(lambda: run in [words["run_id"] for words in server.webhook_calls])
