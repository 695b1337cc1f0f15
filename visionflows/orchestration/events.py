"""Events sent to the Prefect server: a model was promoted, a scoring run drifted.

`visionflows.model.promoted` starts the score deployment; it names the store of the model.
"""

from visionflows.errors import ServerError
from visionflows.models import registry
from visionflows.orchestration import server
from visionflows.orchestration.flow_runs import flow_run_id
from visionflows.scoring.schema import RunResult
from visionflows.storage import open_storage

PROMOTED = "visionflows.model.promoted"
DRIFTED = "visionflows.run.drifted"


def promote(model: str, store: str, alias: str = "production", why: str = "") -> str:
    """Point an alias at a model and send the event; `pets@production` is returned.

    The history records who did it (a person or the current flow run) and why.
    Raises ModelError if there is no such model or its artifact is damaged, and ServerError if the
    promotion is done but the server did not receive the event.
    """
    name, version = registry.promote(model, store, alias, flow_run_id(), why)
    promoted = f"{name}@{alias}"
    if server.is_configured():
        _check_server(f"{name}@{version}", alias)
        from prefect.events import emit_event

        emit_event(
            PROMOTED,
            resource={
                "prefect.resource.id": f"visionflows.model.{name}.{alias}",
                "prefect.resource.name": f"{name}@{version}",
            },
            payload={
                "model": promoted,
                "version": version,
                "store": open_storage(store).absolute(),
            },
        )
    return promoted


def emit_drift(run: RunResult) -> None:
    """Send the drift warnings of a scoring run, if it has any and is a flow run."""
    if not (run.drift and run.drift.warnings and (run_id := flow_run_id())):
        return
    from prefect.events import emit_event

    findings = [finding for finding in run.drift.findings if finding.warns]
    emit_event(
        DRIFTED,
        resource={
            "prefect.resource.id": f"visionflows.run.{run_id}",
            "prefect.resource.name": run.output,
        },
        payload={
            "output": run.output,
            "model": f"{run.model.name}@{run.model.version}",
            "run": run.drift.run,
            "warnings": run.drift.warnings,
            "quantities": [finding.quantity for finding in findings],
        },
    )


def _check_server(model: str, alias: str) -> None:
    try:
        server.check()
    except ServerError as error:
        raise ServerError(
            f"{model}: promoted to {alias}, but the server did not receive the event, so no "
            f"scoring starts; promote it again once the server answers ({error})"
        ) from error
