"""Events sent to the Prefect server: a model was promoted, a scoring run drifted."""

from typing import Any

from visionflows.errors import ServerError
from visionflows.models import registry
from visionflows.orchestration import server
from visionflows.orchestration.flow_runs import flow_run_id
from visionflows.scoring.schema import RunResult
from visionflows.storage import open_storage

PROMOTED = "visionflows.model.promoted"  # starts the score deployment
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
        payload = {"model": promoted, "version": version, "store": open_storage(store).absolute()}
        event = _make_event(PROMOTED, f"model.{name}.{alias}", f"{name}@{version}", payload)
        try:
            server.check()
            server.send_event(event)
        except ServerError as error:
            raise ServerError(
                f"{name}@{version}: promoted to {alias}, but the server did not receive the event, "
                f"so no scoring starts; promote it again once the server answers ({error})"
            ) from error
    return promoted


def emit_drift(run: RunResult) -> None:
    """Send the drift warnings of a scoring run, if it has any and is a flow run."""
    if not (run.drift and run.drift.warnings and (run_id := flow_run_id())):
        return
    payload = {
        "output": run.output,
        "model": f"{run.model.name}@{run.model.version}",
        "run": run.drift.run,
        "warnings": run.drift.warnings,
        "quantities": [finding.quantity for finding in run.drift.findings if finding.warns],
    }
    from prefect.events import emit_event

    emit_event(**_make_event(DRIFTED, f"run.{run_id}", run.output, payload))


def _make_event(event: str, resource: str, name: str, payload: dict[str, Any]) -> dict[str, Any]:
    ids = {"prefect.resource.id": f"visionflows.{resource}", "prefect.resource.name": name}
    return {"event": event, "resource": ids, "payload": payload}
