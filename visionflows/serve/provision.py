"""What the server must hold beside the deployments: the one-job limit and the automations.

    prefect work-pool create visionflows --type process
    prefect deploy --all --prefect-file deployments/prefect.yaml     # runs `provision` as its build

Everything here can be applied again and changes nothing that is there already.
"""

import datetime
from importlib import metadata
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound

from visionflows.orchestration.heartbeat import HEARTBEAT, TAG

LIMIT = "visionflows-gpu"
DEAD_RULE = "visionflows: a run that fell silent has crashed"
SILENCE = datetime.timedelta(seconds=3 * HEARTBEAT)
DEAD = (  # prefect.yaml knows a run that was marked by how this begins
    "No heartbeat for 90 s: its process or machine is gone. Run it again; a scoring resumes where "
    "it was."
)
ENDED = ("Completed", "Failed", "Cancelled", "Crashed")


def provision(
    deployments: list[str],
    jobs: int = 1,
    rules: list[dict[str, Any]] | None = None,
) -> dict[str, str]:
    """What prefect.yaml may use as {{ visionflows.version }}; the server is made ready on the way.

    `deployments` ("score/score", …) share one global concurrency limit of `jobs` runs at a time.
    Prefect's file can only give each deployment a limit of its own, so this reserves those that
    do not exist yet, bound to the shared limit; `prefect deploy` then fills them in, and leaves
    the limit they are bound to as long as their `concurrency_limit` in the file equals `jobs`.

    `rules` run a deployment on an event. Prefect's own `triggers:` delete their automations and
    make them anew at every deploy: what was switched off in the UI would be on again, and an
    event in between be missed. Each rule: name, description, deployment, expect, match, parameters.
    """
    with get_client(sync_client=True) as client:
        limit = _limit(client, jobs)
        ids = {name: _bind(client, name, limit) for name in deployments}
        for rule in rules or []:
            name = rule["deployment"]
            found = ids[name] if name in ids else _reserve(client, name)
            _apply_rule(client, _event_rule(**{**rule, "deployment": found}))
        _apply_rule(client, _dead_rule())
    return {"version": metadata.version("visionflows")}


def ensure_pool(name: str) -> None:
    """Make a work pool of processes unless there is a pool of that name, whatever its kind."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.workers.process import ProcessWorker

    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(
                WorkPoolCreate(name=name, type="process", base_job_template=template)
            )


def _limit(client: SyncPrefectClient, jobs: int) -> str:
    """The id of the shared limit; how many it allows is set only when it is made."""
    try:
        limit = client.read_global_concurrency_limit_by_name(LIMIT)
    except ObjectNotFound:
        create = GlobalConcurrencyLimitCreate(name=LIMIT, limit=jobs)
        return str(client.create_global_concurrency_limit(create))
    return str(limit.id)


def _bind(client: SyncPrefectClient, full_name: str, limit: str) -> UUID:
    """The id of a deployment that takes its turns from the shared limit; a new one is reserved."""
    bound = {"global_concurrency_limit_id": limit}
    deployment = _reserve(client, full_name, **bound)
    now = client.read_deployment(deployment).global_concurrency_limit
    if now is None or str(now.id) != limit:
        where = {"id": str(deployment)}
        client.request("PATCH", "/deployments/{id}", path_params=where, json=bound)
    return deployment


def _reserve(client: SyncPrefectClient, full_name: str, **fields: str) -> UUID:
    """The id of a deployment, be it there or not: `prefect deploy` fills in one that is not."""
    flow, _, name = full_name.partition("/")
    try:
        return client.read_deployment_by_name(full_name).id
    except ObjectNotFound:
        new = {"flow_id": str(client.create_flow_from_name(flow)), "name": name, **fields}
        return UUID(client.request("POST", "/deployments/", json=new).json()["id"])


def _apply_rule(client: SyncPrefectClient, rule: AutomationCore) -> None:
    """Make an automation, or change the one of its name where it says something else."""
    same_name = client.read_automations_by_name(rule.name)
    if not same_name:
        client.create_automation(rule)
    elif _meaning(same_name[0]) != _meaning(rule):
        rule.enabled = same_name[0].enabled
        client.update_automation(same_name[0].id, rule)


def _meaning(rule: AutomationCore) -> dict[str, Any]:
    fields = rule.model_dump(include={"description", "trigger", "actions"})
    fields["trigger"].pop("id", None)
    return fields


def _event_rule(
    name: str,
    description: str,
    deployment: UUID,
    expect: list[str],
    match: dict[str, Any],
    parameters: dict[str, Any],
) -> AutomationCore:
    trigger = EventTrigger.model_validate(
        {"expect": expect, "match": match, "posture": "Reactive", "threshold": 1, "within": 0}
    )
    run = {"type": "run-deployment", "deployment_id": deployment, "parameters": parameters}
    return AutomationCore.model_validate(
        {"name": name, "description": description, "trigger": trigger, "actions": [run]}
    )


def _dead_rule() -> AutomationCore:
    """A run whose machine died cannot say so: silence after a heartbeat marks it crashed.

    The rule is the one of https://docs.prefect.io/v3/advanced/detect-zombie-flows, for the runs
    that have our tag: others beat as often as they like (visionflows.orchestration.heartbeat).
    """
    tag = f"prefect.tag.{TAG}"
    trigger = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{end}" for end in ENDED)},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        match_related=ResourceSpecification(
            {"prefect.resource.role": ["tag"], "prefect.resource.id": [tag]}
        ),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=SILENCE,
    )
    told = "Its process or machine is gone; the next run into the same output resumes."
    mark = {"type": "change-flow-run-state", "state": "CRASHED", "message": DEAD}
    return AutomationCore.model_validate(
        {"name": DEAD_RULE, "description": told, "trigger": trigger, "actions": [mark]}
    )
