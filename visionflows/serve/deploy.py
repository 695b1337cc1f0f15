"""Make a server have what a prefect.yaml says, and no longer what the file said before.

The server's variable `visionflows_applied` records what was applied. While file and visionflows are
unchanged, changes made in the UI (schedules, parameters, limits) stay; only what a deployment
cannot run without is restored: itself, its pool, its queue and its concurrency limit.
"""

import logging
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from visionflows.serve.api import api_client
from visionflows.serve.child_processes import last_line
from visionflows.serve.deployments_file import LIMIT, DeploymentsFile, read_deployments_file
from visionflows.serve.interrupted_runs import read_runs
from visionflows.serve.settings import POOL, UpError

log = logging.getLogger("visionflows.up")

VARIABLE = "visionflows_applied"


def apply(file: Path, env: Mapping[str, str], output: Path) -> None:
    """Deploy the file to the server in `env`, or restore what is missing; Prefect's output is kept.

    Raises UpError if the file is no YAML, or has an error, which is named with its line.
    """
    wanted = read_deployments_file(file)
    with api_client(env, timeout=60) as server:
        recorded = _read_applied(server)
        _create_pool(server)
        if recorded.get("file") == wanted.digest:
            log.info("%s is unchanged; changes made in the UI stay", file)
            _restore(server, wanted, env, output)
            return
        log.info("applying %s; it overrides changes made in the UI", file)
        _deploy(wanted, env, output, "--all")
        _remove(server, recorded, wanted.record())
        _write_applied(server, wanted.record())


def _deploy(wanted: DeploymentsFile, env: Mapping[str, str], output: Path, *which: str) -> None:
    arguments = ("--no-prompt", "deploy", *which, "--prefect-file", wanted.file.name)
    with output.open("wb") as log_file:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "visionflows.serve.deployments_file_errors", *arguments],
            env=dict(env),
            cwd=wanted.file.absolute().parent,  # Prefect looks for the file in its own folder
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=subprocess.STDOUT,
        )
    if ended.returncode:
        raise UpError(last_line(output, "the deployments were not applied"))


def _remove(server: httpx.Client, recorded: dict[str, Any], now: dict[str, Any]) -> None:
    """Remove the deployments, schedules and rules that were applied and are no longer wanted."""
    applied = recorded.get("deployments", {})
    for key, deployment in _read_deployments(server, applied).items():
        path, name = f"/deployments/{deployment['id']}", deployment["name"]
        if key not in now["deployments"]:
            # The shared limit would be deleted with it.
            server.patch(path, json={"global_concurrency_limit_id": None}).raise_for_status()
            server.delete(path).raise_for_status()
            log.info("removed the deployment %s: the file no longer has it", name)
            continue
        gone = set(applied[key]) - set(now["deployments"][key])
        for schedule in deployment["schedules"]:
            if (schedule["slug"] or "") in gone:
                server.delete(f"{path}/schedules/{schedule['id']}").raise_for_status()
                log.info("removed the schedule %s of %s", schedule["slug"] or "without slug", name)
    for rule in set(recorded.get("rules", ())) - set(now["rules"]):
        only = {"automations": {"name": {"any_": [rule]}}}
        for found in server.post("/automations/filter", json=only).raise_for_status().json():
            server.delete(f"/automations/{found['id']}").raise_for_status()
            log.info("removed the rule %s", rule)


def _restore(
    server: httpx.Client, wanted: DeploymentsFile, env: Mapping[str, str], output: Path
) -> None:
    """Restore what the deployments cannot run without; what people chose is kept."""
    existing = _read_deployments(server, wanted.deployments)
    if missing := [key for key in wanted.deployments if key not in existing]:
        log.warning("deployed again, since the server has it no longer: %s", ", ".join(missing))
        names = [wanted.deployments[key]["name"] for key in missing]
        _deploy(wanted, env, output, *(word for name in names for word in ("--name", name)))
    _restore_limit(server, wanted)
    for key, deployment in existing.items():
        pool = wanted.deployments[key].get("work_pool") or {}
        if pool.get("name") and not deployment["work_pool_name"]:
            _restore_queue(server, deployment, pool)


def _restore_limit(server: httpx.Client, wanted: DeploymentsFile) -> None:
    found = [server.get(f"/deployments/name/{name}") for name in wanted.limited]
    bare = [one.json() for one in found if one.is_success]
    bare = [one for one in bare if not one["global_concurrency_limit"]]
    if not bare:
        return
    limit = server.get(f"/v2/concurrency_limits/{LIMIT}")
    if limit.status_code == 404:
        limit = server.post("/v2/concurrency_limits/", json={"name": LIMIT, "limit": wanted.jobs})
    body = {"global_concurrency_limit_id": limit.raise_for_status().json()["id"]}
    for deployment in bare:
        server.patch(f"/deployments/{deployment['id']}", json=body).raise_for_status()
        log.warning("%s: restored its concurrency limit %s", deployment["name"], LIMIT)


def _restore_queue(server: httpx.Client, deployment: dict[str, Any], pool: dict[str, Any]) -> None:
    """Put a deployment, and its runs that wait, back into the pool that was deleted."""
    name, path = deployment["name"], f"/deployments/{deployment['id']}"
    if server.get(f"/work_pools/{pool['name']}").status_code == 404:
        log.warning("%s: there is no work pool %s; its runs do not start", name, pool["name"])
        return
    body = {"work_pool_name": pool["name"]}
    if pool.get("work_queue_name"):
        body["work_queue_name"] = pool["work_queue_name"]
    server.patch(path, json=body).raise_for_status()
    log.warning("%s: restored its work pool and queue", name)
    waiting = {
        "deployment_id": {"any_": [deployment["id"]]},
        "state": {"type": {"any_": ["SCHEDULED"]}},
    }
    for run in read_runs(server, waiting):
        if not run["work_pool_name"]:  # a run cannot be moved into a queue
            details = {"scheduled_time": run["expected_start_time"]}
            state = {"type": "SCHEDULED", "state_details": details}
            again = {key: run[key] for key in ("name", "parameters", "tags")} | {"state": state}
            server.post(f"{path}/create_flow_run", json=again).raise_for_status()
            server.delete(f"/flow_runs/{run['id']}").raise_for_status()


def _read_deployments(server: httpx.Client, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The deployments that the server has of some keys of the file, by key."""
    only = {"deployments": {"name": {"any_": [key.rpartition(" ")[0] for key in keys]}}}
    found = server.post("/deployments/filter", json=only).raise_for_status().json()
    by_key = {f"{one['name']} {one['entrypoint']}": one for one in found}
    return {key: by_key[key] for key in keys if key in by_key}


def _create_pool(server: httpx.Client) -> None:
    """Create the work pool, unless there is one of any type; the worker adds its job template."""
    answer = server.post("/work_pools/", json={"name": POOL, "type": "process"})
    if answer.status_code != 409:
        answer.raise_for_status()


def _read_applied(server: httpx.Client) -> dict[str, Any]:
    """What was applied last; empty if nothing was."""
    answer = server.get(f"/variables/name/{VARIABLE}")
    value = {} if answer.status_code == 404 else answer.raise_for_status().json()["value"]
    return value if isinstance(value, dict) else {}


def _write_applied(server: httpx.Client, applied: dict[str, Any]) -> None:
    body = {"name": VARIABLE, "value": applied, "tags": ["visionflows"]}
    answer = server.patch(f"/variables/name/{VARIABLE}", json=body)
    if answer.status_code == 404:
        answer = server.post("/variables/", json=body)
    answer.raise_for_status()
