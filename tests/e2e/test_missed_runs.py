"""Of the missed runs only ours are skipped, except the latest of each deployment."""

import datetime
import uuid

import pytest
from prefect.settings import PREFECT_API_URL

from visionflows.serve.api import api_client
from visionflows.serve.interrupted_runs import cancel_missed


@pytest.mark.usefixtures("prefect_server")
def test_missed_runs_of_other_deployments_are_kept():
    env = {"PREFECT_API_URL": PREFECT_API_URL.value()}
    with api_client(env, timeout=30) as server:
        ours, theirs = (missed(server, tags) for tags in (["visionflows", "score"], ["nightly"]))
        assert cancel_missed(env) == 2
        names = [[state(server, run) for run in runs] for runs in (ours, theirs)]
        assert names == [["Missed", "Missed", "Scheduled"], ["Scheduled"] * 3]
        assert cancel_missed(env) == 0
        for run in (*ours, *theirs):
            server.delete(f"/flow_runs/{run}").raise_for_status()


def missed(server, tags: list[str]) -> list[str]:
    """Scheduled runs of a deployment for the last three days."""
    flow = server.post("/flows/", json={"name": f"f-{uuid.uuid4()}"}).json()["id"]
    new = {"name": "nightly", "flow_id": flow, "tags": tags}
    deployment = server.post("/deployments/", json=new).json()["id"]
    now = datetime.datetime.now(datetime.UTC)
    runs = []
    for run_records in (3, 2, 1):
        when = (now - datetime.timedelta(days=run_records)).isoformat()
        made = {
            "flow_id": flow,
            "deployment_id": deployment,
            "tags": ["auto-scheduled", *tags],
            "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": when}},
        }
        answer = server.post("/flow_runs/", json=made)
        runs.append(answer.raise_for_status().json()["id"])
    return runs


def state(server, run: str) -> str:
    name = server.get(f"/flow_runs/{run}").json()["state"]["name"]
    return "Scheduled" if name == "Late" else name
