"""Wait for an event to arrive on a Prefect server.

wait_for_event("prefect.flow-run.heartbeat", f"prefect.flow-run.{run}")
"""

import time

from prefect.client.orchestration import get_client
from prefect.server.events.schemas.events import ReceivedEvent


def wait_for_event(event: str, resource: str) -> ReceivedEvent:
    """Wait for an event of a resource, and return the newest."""
    only = {"event": {"name": [event]}, "resource": {"id": [resource]}}
    deadline = time.monotonic() + 60
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            answer = client._client.post("/events/filter", json={"filter": only})
            if found := answer.json()["events"]:
                return ReceivedEvent.model_validate(found[0])
            time.sleep(0.3)
    raise AssertionError(f"no event {event} of {resource}")
