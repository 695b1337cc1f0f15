"""Create what the deployments need on the server: the shared concurrency limit and automations.

`prefect deploy` calls `provision` as a build step of prefect.yaml; another call changes nothing.
"""

import datetime
from importlib import metadata
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel, ConfigDict, validate_call

from visionflows.orchestration.heartbeat import AWAITING_OUTPUT, HEARTBEAT, TAG
from visionflows.serve.deployments_file import LIMIT

ZOMBIE_RULE = "visionflows: mark runs without heartbeats as crashed"
SILENCE = datetime.timedelta(seconds=3 * HEARTBEAT)
ZOMBIE_MESSAGE = (  # a rule of prefect.yaml matches its beginning
    "No heartbeat for 90 s: its process or machine is gone. Run it again; a scoring run resumes."
)
# Events of a run that is alive, has ended, or is back in the queue.
EVENTS = ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed", AWAITING_OUTPUT)


class Rule(BaseModel):
    """A rule of the file: which event runs which deployment, and with what."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str = ""
    deployment: str
    expect: list[str]
    match: dict[str, str | list[str]]
    parameters: dict[str, Any] = {}


@validate_call
def provision(
    deployments: list[str], jobs: int = 1, rules: list[Rule] | None = None
) -> dict[str, str]:
    """Create limit and automations; {{ visionflows.version }} of prefect.yaml is returned.

    `deployments` ("score/score", …) share one global concurrency limit of `jobs` runs, which
    prefect.yaml cannot express. `prefect deploy` fills them in, and keeps that limit as long as
    their `concurrency_limit` equals `jobs`. `rules` run a deployment on an event; Prefect's own
    `triggers:` would enable again those disabled in the UI, and lose events at every deploy.
    """
    with get_client(sync_client=True) as client:
        limit = _create_limit(client, jobs)
        ids = {name: _bind_deployment(client, name, limit) for name in deployments}
        for rule in rules or []:
            name = rule.deployment
            deployment = ids[name] if name in ids else _create_deployment(client, name)
            _apply_rule(client, _event_rule(rule, deployment))
        _apply_rule(client, zombie_rule())
    return {"version": metadata.version("visionflows")}


def _create_limit(client: SyncPrefectClient, jobs: int) -> str:
    """The id of the shared limit; `jobs` is set only when it is created."""
    try:
        limit = client.read_global_concurrency_limit_by_name(LIMIT)
    except ObjectNotFound:
        create = GlobalConcurrencyLimitCreate(name=LIMIT, limit=jobs)
        return str(client.create_global_concurrency_limit(create))
    return str(limit.id)


def _bind_deployment(client: SyncPrefectClient, full_name: str, limit: str) -> UUID:
    """The id of a deployment, bound to the shared limit and created if missing."""
    fields = {"global_concurrency_limit_id": limit}
    deployment = _create_deployment(client, full_name, **fields)
    current = client.read_deployment(deployment).global_concurrency_limit
    if current is None or str(current.id) != limit:
        path = {"id": str(deployment)}
        client.request("PATCH", "/deployments/{id}", path_params=path, json=fields)
    return deployment


def _create_deployment(client: SyncPrefectClient, full_name: str, **fields: str) -> UUID:
    """The id of a deployment, created if missing; `prefect deploy` fills it in."""
    flow, _, name = full_name.partition("/")
    try:
        return client.read_deployment_by_name(full_name).id
    except ObjectNotFound:
        new = {"flow_id": str(client.create_flow_from_name(flow)), "name": name, **fields}
        return UUID(client.request("POST", "/deployments/", json=new).json()["id"])


def _apply_rule(client: SyncPrefectClient, rule: AutomationCore) -> None:
    """Create an automation, or update the one of its name if it differs."""
    same_name = client.read_automations_by_name(rule.name)
    if not same_name:
        client.create_automation(rule)
    elif _content(same_name[0]) != _content(rule):
        rule.enabled = same_name[0].enabled
        client.update_automation(same_name[0].id, rule)


def _content(rule: AutomationCore) -> dict[str, Any]:
    fields = rule.model_dump(include={"description", "trigger", "actions"})
    fields["trigger"].pop("id", None)
    return fields


def _event_rule(rule: Rule, deployment: UUID) -> AutomationCore:
    trigger = {"type": "event", "posture": "Reactive", "threshold": 1, "within": 0}
    trigger |= {"expect": rule.expect, "match": rule.match}
    run = {"type": "run-deployment", "deployment_id": deployment, "parameters": rule.parameters}
    about = {"name": rule.name, "description": rule.description}
    return AutomationCore.model_validate({**about, "trigger": trigger, "actions": [run]})


def zombie_rule() -> AutomationCore:
    """The automation that marks a run as crashed after three missed heartbeats.

    From https://docs.prefect.io/v3/advanced/detect-zombie-flows, for runs with our tag: the
    heartbeats of others have other intervals.
    """
    tag = f"prefect.tag.{TAG}"
    trigger = {
        **{"type": "event", "posture": "Proactive", "threshold": 1, "within": SILENCE},
        "after": ["prefect.flow-run.heartbeat"],
        "expect": [f"prefect.flow-run.{event}" for event in EVENTS],
        "match": {"prefect.resource.id": ["prefect.flow-run.*"]},
        "match_related": {"prefect.resource.role": ["tag"], "prefect.resource.id": [tag]},
        "for_each": ["prefect.resource.id"],
    }
    description = "Their process or machine is gone; the next run into the same output resumes."
    crash = {"type": "change-flow-run-state", "state": "CRASHED", "message": ZOMBIE_MESSAGE}
    return AutomationCore.model_validate(
        {"name": ZOMBIE_RULE, "description": description, "trigger": trigger, "actions": [crash]}
    )
