"""What a flow run is called, and the output that is its own.

@flow(flow_run_name=called("score {input} with {model}"))
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from prefect.context import FlowRunContext, get_run_context
from prefect.runtime import flow_run

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun


def called(template: str) -> Callable[[], str]:
    """What names a flow run by its parameters, as `flow_run_name` takes it."""
    return lambda: template.format(**flow_run.parameters)


def default_output(store: str) -> str:
    """A place in the store that is this flow run's own: the same one when the run is retried."""
    run = cast("FlowRun", cast(FlowRunContext, get_run_context()).flow_run)
    return f"{store.rstrip('/')}/scores/{run.created:%Y%m%dT%H%M%SZ}-{run.id.hex[-8:]}"
