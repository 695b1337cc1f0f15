"""Report a failed or crashed run: an event on the server, and a webhook if one is set.

VISIONFLOWS_WEBHOOK is a URL that accepts a POST of JSON, such as a chat's incoming webhook: `text`
is the line to show, the other keys identify the run. Set it for the worker.
"""

import logging
import os
from typing import TYPE_CHECKING, Any

import httpx

from visionflows.orchestration.url_redaction import redact

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State

log = logging.getLogger("visionflows.notify")

EVENT = "visionflows.run.failed"


def report_failure(flow: Any, flow_run: "FlowRun", state: "State[Any]") -> None:
    """Emit visionflows.run.failed and call the webhook; a failing webhook is only logged."""
    from prefect.events import emit_event

    if flow_run.parent_task_run_id:  # its parent run reports
        return
    payload = make_payload(
        flow.name, flow_run.name, str(flow_run.id), state.name or "", state.message
    )
    emit_event(EVENT, resource=make_resource(payload), payload=payload)
    call_webhook(payload)


def make_payload(
    flow: str, run: str, run_id: str, state: str, message: str | None
) -> dict[str, str]:
    """The payload of the event and of the webhook."""
    message = redact((message or "").strip())
    return {"flow": flow, "run": redact(run), "run_id": run_id, "state": state, "message": message}


def make_resource(payload: dict[str, str]) -> dict[str, str]:
    """The resource of the event."""
    return {
        "prefect.resource.id": f"visionflows.run.{payload['run_id']}",
        "prefect.resource.name": payload["run"],
    }


def call_webhook(payload: dict[str, str], timeout: float = 10.0) -> None:
    """POST the payload to VISIONFLOWS_WEBHOOK, if it is set; a failure is only logged."""
    url = os.environ.get("VISIONFLOWS_WEBHOOK")
    if not url:
        return
    body = {"text": f"{payload['run']}: {payload['state']}: {payload['message']}", **payload}
    try:
        httpx.post(url, json=body, timeout=timeout).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # The text of the error may hold the URL, which is a secret.
        log.warning("VISIONFLOWS_WEBHOOK: not sent (%s)", type(error).__name__)
