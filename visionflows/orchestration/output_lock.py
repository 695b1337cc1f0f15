"""Lock the output of a scoring run, and let other runs go on while this one waits for it."""

import contextlib
import datetime
import logging
from collections.abc import Iterator

from visionflows.errors import LockedError
from visionflows.orchestration.flow_runs import in_run
from visionflows.orchestration.heartbeat import AWAITING_OUTPUT
from visionflows.scoring.run import lock_output

log = logging.getLogger("visionflows.score")

PAUSE = 60.0  # seconds until a run in the queue tries again


@contextlib.contextmanager
def wait_for_output(output: str, wait: float) -> Iterator[None]:
    """Lock an output for the block; wait up to `wait` seconds for a run that writes into it.

    The run of a deployment waits in the queue: it gives back its slot of a concurrency limit, ends
    its process, and starts again a minute later. Raises LockedError and StorageError.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock_output(output, 0))
        except LockedError as error:
            if not wait:
                raise
            _requeue(error, wait)
            log.info("%s: another run is writing here; waiting up to %g s", output, wait)
            stack.enter_context(lock_output(output, wait))
        yield


def _requeue(error: LockedError, wait: float) -> None:
    """Put a deployment's run back into its queue and end it; others return.

    Raises the error if it has waited for long enough since it first started.
    """
    if not in_run():
        return
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State
    from prefect.client.schemas.responses import SetStateStatus
    from prefect.context import FlowRunContext
    from prefect.exceptions import Abort
    from prefect.states import Scheduled

    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None or run.parent_task_run_id:
        return
    now = datetime.datetime.now(datetime.UTC)
    left = wait - (now - (run.start_time or now)).total_seconds()
    if left <= 0:
        raise error
    again = now + datetime.timedelta(seconds=min(PAUSE, left))
    state: State[None] = Scheduled(name=AWAITING_OUTPUT, message=str(error), scheduled_time=again)
    with get_client(sync_client=True) as client:
        if client.set_flow_run_state(run.id, state).status == SetStateStatus.ACCEPT:
            log.info("%s; back in the queue for up to %.0f s", error, left)
            raise Abort(str(error))
