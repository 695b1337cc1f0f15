"""The current flow run: whether there is one, its id, names and default output."""

import logging
import os
import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx

from visionflows.escaping import printable
from visionflows.orchestration.url_redaction import redact

log = logging.getLogger("visionflows.server")


def in_run() -> bool:
    """Whether a flow run or task run is active; does not import Prefect."""
    context = sys.modules.get("prefect.context")
    return context is not None and bool(
        context.FlowRunContext.get() or context.TaskRunContext.get()
    )


def flow_run_id() -> str:
    """The id of the current flow run; empty if there is none."""
    if not in_run():
        return ""
    from prefect.runtime import flow_run

    return str(flow_run.id or "")


def run_name(template: str) -> Callable[..., str]:
    """A function that names a flow run or task run by its parameters, with URLs redacted."""

    def name(parameters: dict[str, Any] | None = None) -> str:
        if parameters is None:  # Prefect passes them for a task run only
            from prefect.runtime import flow_run

            parameters = flow_run.parameters
        return printable(redact(template.format(**parameters)))

    return name


def default_output(store: str, folder: str = "scores") -> str:
    """A new location in the store for a run's output; a retried flow run gets the same one."""
    created, suffix = datetime.now(UTC), secrets.token_hex(4)
    if in_run():
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        if context and context.flow_run and context.flow_run.created:
            created, suffix = context.flow_run.created, context.flow_run.id.hex[-8:]
    return f"{store.rstrip('/')}/{folder}/{created:%Y%m%dT%H%M%SZ}-{suffix}"


def fail_with_unknown_parameters(error: BaseException | None) -> bool:
    """Whether the error is about parameters that the flow of this process does not have.

    If so, its run is Failed with their names, and reported: Prefect has only an exit status for it.
    """
    from prefect.exceptions import SignatureMismatchError

    if not isinstance(error, SignatureMismatchError):
        return False
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State
    from prefect.flow_engine import load_flow, load_flow_run
    from prefect.states import Failed

    run = load_flow_run(UUID(os.environ["PREFECT__FLOW_RUN_ID"]))
    flow = load_flow(run)
    known = flow.parameters.properties
    names = ", ".join(sorted(run.parameters.keys() - known.keys()))
    message = f"{names}: {flow.name} has no such parameter; it has {', '.join(known)}"
    state: State[Any] = Failed(message=message)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, state, force=True)
    for hook in flow.on_failure_hooks:
        hook(flow, run, state)
    return True


def update_ui(name: str, update: Callable[[], object], warn: bool = True) -> bool:
    """Send something to the Prefect UI; whether the server accepted it.

    A server that is unavailable costs a warning, not the run.
    """
    from prefect.exceptions import PrefectException

    try:
        update()
    except (httpx.HTTPError, PrefectException) as error:
        if warn:  # the text of the error may hold a URL with secrets
            reason = type(error).__name__
            log.warning("%s is not in the UI: the server is unavailable (%s)", name, reason)
        return False
    return True
