"""Tell others that a run failed or crashed: an event on the server, and a webhook if one is set.

@flow(on_failure=[report_failure], on_crashed=[report_failure])

VISIONFLOWS_WEBHOOK is a URL that takes a POST of JSON, such as a chat's incoming webhook: `text`
is the line to show, the other keys say which run it was. Set it where the worker runs.
"""

import logging
import os
from typing import TYPE_CHECKING, Any

from visionflows.orchestration.url_redaction import public

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import Flow as StoredFlow
    from prefect.client.schemas.objects import FlowRun, State

log = logging.getLogger("visionflows.notify")

EVENT = "visionflows.run.failed"


def report_failure(
    flow: "Flow[..., Any] | StoredFlow", flow_run: "FlowRun", state: "State[Any]"
) -> None:
    """Emit visionflows.run.failed and call the webhook; a webhook that fails is only logged."""
    from prefect.events import emit_event

    if flow_run.parent_task_run_id:  # the run that this one is a part of will tell
        return
    words = words_of(flow.name, flow_run.name, str(flow_run.id), state.name or "", state.message)
    emit_event(EVENT, resource=resource_of(words), payload=words)
    call(words)


def words_of(flow: str, run: str, run_id: str, state: str, message: str | None) -> dict[str, str]:
    """What is told of a run, as the event's payload and the webhook's keys."""
    said = public((message or "").strip())
    return {"flow": flow, "run": public(run), "run_id": run_id, "state": state, "message": said}


def resource_of(words: dict[str, str]) -> dict[str, str]:
    """What the event is about."""
    return {
        "prefect.resource.id": f"visionflows.run.{words['run_id']}",
        "prefect.resource.name": words["run"],
    }


def call(words: dict[str, str], patience: float = 10.0) -> None:
    """POST these words to VISIONFLOWS_WEBHOOK, if it is set; that it failed is only logged."""
    import httpx

    url = os.environ.get("VISIONFLOWS_WEBHOOK")
    if not url:
        return
    body = {"text": f"{words['run']}: {words['state']}: {words['message']}", **words}
    try:
        httpx.post(url, json=body, timeout=patience).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        kind = type(error).__name__  # its text may hold the URL, which is a secret
        log.warning("VISIONFLOWS_WEBHOOK could not be told (%s)", kind)
