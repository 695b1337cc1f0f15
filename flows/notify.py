"""The notify flow: report a run that could not report its own end.

When a machine is lost, the server marks its run as crashed and runs no hooks of the flow. A rule of
deployments/prefect.yaml starts this flow instead, on any worker.
"""

from typing import Annotated
from uuid import UUID

from visionflows.orchestration import notifications
from visionflows.orchestration.heartbeat import TAG
from visionflows.orchestration.steps import flow


@flow(
    flow_run_name="notify of {run}",
    description="Send visionflows.run.failed, and call the webhook, for a run that crashed.",
)
def notify(
    run: Annotated[str, "The run's id, or the name of its resource: prefect.flow-run.ID."],
) -> bool:
    """Whether a failure was reported: only for a crashed run of ours."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_flow_run(UUID(run.rpartition(".")[2]))
        if found.state is None or not found.state.is_crashed() or TAG not in found.tags:
            return False
        notifications.report_failure(client.read_flow(found.flow_id), found, found.state)
    return True
