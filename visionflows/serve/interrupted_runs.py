"""Mark runs that a stop interrupted, and cancel scheduled runs that were missed."""

import datetime
import json
import uuid
from collections.abc import Mapping
from typing import Any

import httpx
import psutil

from visionflows.orchestration import notifications
from visionflows.orchestration.heartbeat import TAG
from visionflows.serve.api import api_client
from visionflows.serve.settings import POOL

_INTERRUPTED = "Its worker stopped during this run. Run it again; a scoring run resumes."
_MISSED = "Nothing ran at the scheduled time; the latest missed run does the work."
_PAGE_SIZE = 200


def mark_interrupted(env: Mapping[str, str], pids: set[int] | None = None) -> int:
    """Mark the runs of these processes, and their child runs, as crashed; how many is returned.

    Without `pids`, those whose process has ended or never began, as after a power cut; none if the
    pool has had other workers, whose runs they may be. Otherwise they would read Running until
    their heartbeats are missed, or Pending until their turn lapses. Raises httpx.HTTPError.
    """
    with api_client(env) as server:
        if pids is None and _has_other_workers(server):
            return 0
        active = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
        runs = read_runs(server, active, work_pools={"name": {"any_": [POOL]}})
        interrupted = [run for run in runs if _has_ended(run["infrastructure_pid"], pids)]
        if interrupted:
            parents = {"parent_flow_run_id": {"any_": [run["id"] for run in interrupted]}}
            interrupted += read_runs(server, {**active, **parents})
        for run in interrupted:
            if run["state"]["type"] == "CANCELLING":
                _set_state(server, run, "CANCELLED", None)
                continue
            _set_state(server, run, "CRASHED", _INTERRUPTED)
            if not run["parent_task_run_id"]:
                _report_crash(server, run)
    return len(interrupted)


def _has_other_workers(server: httpx.Client) -> bool:
    answer = server.post(f"/work_pools/{POOL}/workers/filter", json={})
    return any(worker["name"] != POOL for worker in answer.raise_for_status().json())


def _has_ended(pid: str | None, pids: set[int] | None) -> bool:
    """Whether a run's process has ended; without a process, its worker has."""
    if not pid or not pid.isdecimal():
        return not pid
    return not psutil.pid_exists(int(pid)) if pids is None else int(pid) in pids


def _report_crash(server: httpx.Client, run: dict[str, Any]) -> None:
    """Report the run as its hook would; briefly, since this machine may be shutting down."""
    flow = server.get(f"/flows/{run['flow_id']}").json()["name"]
    event = notifications.make_event(flow, run["name"], run["id"], "Crashed", _INTERRUPTED)
    occurred = datetime.datetime.now(datetime.UTC).isoformat()
    body = [{**event, "id": str(uuid.uuid4()), "occurred": occurred}]
    server.post("/events", json=body).raise_for_status()
    notifications.call_webhook(event["payload"], timeout=1)


def cancel_missed(env: Mapping[str, str]) -> int:
    """Cancel missed runs that a later missed run repeats; how many is returned.

    After three nights without a server, one run does the work. Only deployments with the tag
    `visionflows` are concerned. Raises httpx.HTTPError.
    """
    late = {
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "expected_start_time": {"before_": datetime.datetime.now(datetime.UTC).isoformat()},
        "tags": {"all_": ["auto-scheduled", TAG]},
    }
    latest: set[str] = set()
    cancelled = 0
    with api_client(env, timeout=30) as server:
        runs = read_runs(server, late)
        for run in sorted(runs, key=lambda run: str(run["expected_start_time"]), reverse=True):
            job = json.dumps([run["deployment_id"], run["parameters"]], sort_keys=True)
            if job in latest:
                _set_state(server, run, "CANCELLED", _MISSED, name="Missed")
                cancelled += 1
            latest.add(job)
    return cancelled


def read_runs(
    server: httpx.Client, flow_runs: dict[str, Any], **filters: dict[str, Any]
) -> list[dict[str, Any]]:
    """All flow runs that match the filters, page by page."""
    found: list[dict[str, Any]] = []
    only = {"flow_runs": flow_runs, **filters, "limit": _PAGE_SIZE, "sort": "ID_DESC"}
    while True:
        answer = server.post("/flow_runs/filter", json={**only, "offset": len(found)})
        page = answer.raise_for_status().json()
        found += page
        if len(page) < _PAGE_SIZE:
            return found


def _set_state(
    server: httpx.Client, run: dict[str, Any], kind: str, message: str | None, name: str = ""
) -> None:
    state = {"type": kind, "name": name or kind.capitalize(), "message": message}
    body = {"state": state, "force": True}
    server.post(f"/flow_runs/{run['id']}/set_state", json=body).raise_for_status()
