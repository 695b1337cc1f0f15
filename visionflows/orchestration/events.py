"""What the server hears of: a model that was promoted, a night that is unlike those before it.

    visionflows models promote pets@20261123T081500123Z-1a2b3c4d
    python -c 'from visionflows.orchestration import events; events.promote("pets", "store")'

The event `visionflows.model.promoted` is what the score deployment waits for: it names the store,
so that the model is looked for in no other one. What comes of `visionflows.run.drifted` is up to
you.
"""

from visionflows.errors import ServerError
from visionflows.models import registry
from visionflows.orchestration import server
from visionflows.orchestration.flow_runs import flow_run_id
from visionflows.scoring.schema import RunResult
from visionflows.storage import absolute

PROMOTED = "visionflows.model.promoted"
DRIFTED = "visionflows.run.drifted"


def promote(model: str, store: str, alias: str = "production", why: str = "") -> str:
    """The name `pets@production`, which means `model` from now on; the server is told so.

    The history keeps who did so, or the flow run that this is called in, and why.
    Raises ModelError where there is no such model, or its bundle is not whole, and ServerError
    where the promotion stands but its server did not hear of it.
    """
    name, version = registry.promote(model, store, alias, flow_run_id(), why)
    promoted = f"{name}@{alias}"
    if server.is_named():  # else there is no server that could wait for it
        _check(f"{name}@{version}", alias)
        from prefect.events import emit_event

        emit_event(
            PROMOTED,
            resource={
                "prefect.resource.id": f"visionflows.models.{name}.{alias}",
                "prefect.resource.name": f"{name}@{version}",
            },
            payload={"model": promoted, "version": version, "store": absolute(store)},
        )
    return promoted


def emit_drift(run: RunResult) -> None:
    """Tell the server what a scoring run warns of, where it is a flow run."""
    if not (run.drift and run.drift.warnings and (id_ := flow_run_id())):
        return
    from prefect.events import emit_event

    model = f"{run.model.name}@{run.model.version}"
    warned = [finding for finding in run.drift.findings if finding.warns]
    emit_event(
        DRIFTED,
        resource={
            "prefect.resource.id": f"visionflows.run.{id_}",
            "prefect.resource.name": run.output,
        },
        payload={
            "output": run.output,
            "model": model,
            "night": run.drift.run_record,
            "warnings": run.drift.warnings,
            "quantities": [finding.quantity for finding in warned],
        },
    )


def _check(model: str, alias: str) -> None:
    try:
        server.check()
    except ServerError as error:
        raise ServerError(
            f"{model}: promoted to {alias}, but the server did not hear of it, and starts nothing; "
            f"promote it again once it answers ({error})"
        ) from error
