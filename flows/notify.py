"""The notify flow: pass on what became of a run that could not say so itself.

prefect deployment run notify/notify --param run=prefect.flow-run.0190c5e2-…

A run whose machine was lost is marked Crashed by the server, which runs no hook of ours. A rule of
deployments/prefect.yaml then runs this, on whichever worker there is.
"""

from uuid import UUID

from visionflows.orchestration import notifications
from visionflows.orchestration.flow_runs import run_name
from visionflows.orchestration.heartbeat import TAG
from visionflows.orchestration.steps import flow


@flow(
    name="notify",
    flow_run_name=run_name("notify of {run}"),
    description="Send visionflows.run.failed, and call the webhook, for a run that died silently.",
)
def notify(run: str) -> bool:
    """Whether there was something to tell: a run of ours that has crashed.

    Args:
        run: The run's id, or the name of its resource: prefect.flow-run.ID.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_flow_run(UUID(run.rpartition(".")[2]))
        if found.state is None or not found.state.is_crashed() or TAG not in found.tags:
            return False
        notifications.report_failure(client.read_flow(found.flow_id), found, found.state)
    return True
