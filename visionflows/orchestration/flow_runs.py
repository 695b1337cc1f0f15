"""Whether there is a flow run, what it is called, and the output that is its own.

@flow(flow_run_name=run_name("score {input} with {model}"))
"""

import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from visionflows.orchestration.url_redaction import public


def in_run() -> bool:
    """Whether this is called inside a flow run or task run. Prefect is not imported to know it."""
    context = sys.modules.get("prefect.context")
    return context is not None and bool(
        context.FlowRunContext.get() or context.TaskRunContext.get()
    )


def flow_run_id() -> str:
    """The id of the flow run that this is called in; empty where there is none."""
    if not in_run():
        return ""
    from prefect.runtime import flow_run

    return str(flow_run.id or "")


def run_name(template: str) -> Callable[..., str]:
    """What names a flow run or a task run by its parameters, without what is secret in them."""

    def name(parameters: dict[str, Any] | None = None) -> str:
        if parameters is None:  # a flow's name is asked for without them
            from prefect.runtime import flow_run

            parameters = flow_run.parameters
        return public(template.format(**parameters))

    return name


def default_output(store: str) -> str:
    """A place in the store that is this run's own; a flow run that is retried has the same."""
    created, mark = datetime.now(UTC), secrets.token_hex(4)
    if in_run():
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        if context and context.flow_run and context.flow_run.created:
            created, mark = context.flow_run.created, context.flow_run.id.hex[-8:]
    return f"{store.rstrip('/')}/scores/{created:%Y%m%dT%H%M%SZ}-{mark}"
