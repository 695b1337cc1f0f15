"""How a server knows that a run of ours lives: its tag, and its heartbeat.

with watched():                  # around the start of a flow
    run()

The rule of visionflows.serve.provision marks a run with the tag as crashed when three heartbeats in
a row are missed. A deployment has the tag and the frequency from prefect.yaml.
"""

import contextlib
from collections.abc import Iterator

TAG = "visionflows"
HEARTBEAT = 30  # seconds, the fewest that Prefect allows; it beats every 180 if nobody says so
FREQUENCY = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """The flow runs that begin in the block have the tag, and are heard of as often as it needs.

    Where heartbeats are switched off they stay so: the rule knows no run that has never been heard.
    """
    from prefect import tags
    from prefect.settings import get_current_settings, temporary_settings

    every = get_current_settings().flows.heartbeat_frequency
    often = temporary_settings({"flows.heartbeat_frequency": HEARTBEAT})
    with tags(TAG), often if every and every > HEARTBEAT else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def unmarked() -> Iterator[None]:
    """The task runs that begin in the block have no tag of ours, for which Prefect would ask its
    server, at the start of each, whether there is a limit of that name."""
    from prefect.context import TagsContext

    with TagsContext(current_tags=TagsContext.get().current_tags - {TAG}):
        yield
