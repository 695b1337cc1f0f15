"""Runs that a stop cuts short, and nights that were missed.

cut_short(env, pids)             # after the worker was stopped, while the server still runs
skip_missed(env)                 # before the worker starts
"""

import datetime
import json
import os
import uuid
from collections.abc import Mapping
from typing import Any

import httpx

from visionflows.orchestration import notifications
from visionflows.orchestration.heartbeat import TAG
from visionflows.serve.api import api
from visionflows.serve.settings import POOL

_CUT = "`visionflows up` was stopped in the middle of it. Run it again; a scoring goes on."
_MISSED = "Nothing ran at that time; the latest of the runs that were missed does its work."
_PAGE = 200


def cut_short(env: Mapping[str, str], pids: set[int] | None = None) -> int:
    """How many runs were marked Crashed: those of these processes, and what ran within them.

    Without `pids`, those whose process is no more, as after a power cut. They would read Running
    until their heartbeats are missed. Raises httpx.HTTPError.
    """
    with api(env) as server:
        alive = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
        ours = _filter(server, {**alive, "work_pools": {"name": {"any_": [POOL]}}})
        cut = [run for run in ours if _has_ended(run["infrastructure_pid"], pids)]
        if cut:
            within = {"parent_flow_run_id": {"any_": [run["id"] for run in cut]}}
            cut += _filter(server, {**alive, **within})
        for run in cut:
            asked = run["state"]["type"] == "CANCELLING"
            _set(server, run, "CANCELLED" if asked else "CRASHED", None if asked else _CUT)
            if not asked and not run["parent_task_run_id"]:
                _tell(server, run)
    return len(cut)


def _has_ended(pid: str | None, pids: set[int] | None) -> bool:
    """A run without a process was handed to a worker that is no more."""
    if not pid or not pid.isdecimal():
        return not pid
    if pids is not None:
        return int(pid) in pids
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _tell(server: httpx.Client, run: dict[str, Any]) -> None:
    """As a hook of the run would have told; quickly, for this machine may be going down."""
    flow = server.get(f"/flows/{run['flow_id']}").json()["name"]
    words = notifications.words_of(flow, run["name"], run["id"], "Crashed", _CUT)
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.datetime.now(datetime.UTC).isoformat(),
        "event": notifications.EVENT,
        "resource": notifications.resource_of(words),
        "payload": words,
    }
    server.post("/events", json=[event]).raise_for_status()
    notifications.call(words, patience=1)


def skip_missed(env: Mapping[str, str]) -> int:
    """How many scheduled runs were dropped because a later one, missed as well, does the same.

    Three nights without a server are one run, not three in a row. It is about deployments with the
    tag `visionflows`. Raises httpx.HTTPError.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat()
    with api(env, timeout=30) as server:
        late = _filter(
            server,
            {
                "state": {"type": {"any_": ["SCHEDULED"]}},
                "expected_start_time": {"before_": now},
                "tags": {"all_": ["auto-scheduled", TAG]},  # what others schedule is theirs
            },
        )
        latest: set[str] = set()
        dropped = 0
        for run in sorted(late, key=lambda run: str(run["expected_start_time"]), reverse=True):
            job = json.dumps([run["deployment_id"], run["parameters"]], sort_keys=True)
            if job in latest:
                _set(server, run, "CANCELLED", _MISSED, name="Missed")
                dropped += 1
            latest.add(job)
    return dropped


def _filter(server: httpx.Client, only: dict[str, Any]) -> list[dict[str, Any]]:
    pools = {"work_pools": only.pop("work_pools")} if "work_pools" in only else {}
    found: list[dict[str, Any]] = []
    while True:
        page = {"flow_runs": only, "limit": _PAGE, "offset": len(found), "sort": "ID_DESC", **pools}
        answer = server.post("/flow_runs/filter", json=page)
        answer.raise_for_status()
        found += answer.json()
        if len(answer.json()) < _PAGE:
            return found


def _set(
    server: httpx.Client, run: dict[str, Any], kind: str, message: str | None, name: str = ""
) -> None:
    state = {"type": kind, "name": name or kind.capitalize(), "message": message}
    body = {"state": state, "force": True}
    server.post(f"/flow_runs/{run['id']}/set_state", json=body).raise_for_status()
