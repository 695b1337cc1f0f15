"""Tag and heartbeat by which a Prefect server monitors our runs.

The rule of visionflows.serve.provision marks a tagged run as crashed after three missed heartbeats.
"""

import contextlib
from collections.abc import Iterator

TAG = "visionflows"
AWAITING_OUTPUT = "AwaitingOutput"  # the state of a run that waits for another's output
HEARTBEAT = 30  # seconds, Prefect's minimum; its default is 180
FREQUENCY = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"


@contextlib.contextmanager
def monitored_runs() -> Iterator[None]:
    """Tag the flow runs that start in the block, and send their heartbeats often enough.

    Heartbeats that are disabled stay disabled: the rule ignores runs without any.
    """
    from prefect import tags
    from prefect.settings import get_current_settings, temporary_settings

    current = get_current_settings().flows.heartbeat_frequency
    frequent = temporary_settings({"flows.heartbeat_frequency": HEARTBEAT})
    with tags(TAG), frequent if current and current > HEARTBEAT else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def untagged_tasks() -> Iterator[None]:
    """Remove our tag from the task runs that start in the block.

    For each tag of a task run, Prefect asks its server for a concurrency limit of that name.
    """
    from prefect.context import TagsContext

    with TagsContext(current_tags=TagsContext.get().current_tags - {TAG}):
        yield
