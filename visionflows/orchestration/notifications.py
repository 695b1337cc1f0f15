"""Report a failed or crashed run: an event on the server, and a webhook if one is set.

VISIONFLOWS_WEBHOOK is a URL that accepts a POST of JSON, such as a chat's incoming webhook: `text`
is the line to show, the other keys identify the run. Set it for the worker and the command line.
"""

import contextlib
import contextvars
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx

from visionflows.escaping import printable
from visionflows.orchestration.url_redaction import redact

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State

log = logging.getLogger("visionflows.notify")

EVENT = "visionflows.run.failed"
_reporting = contextvars.ContextVar("reporting", default=False)


def report_failure(flow: Any, flow_run: "FlowRun", state: "State[Any]") -> None:
    """Emit visionflows.run.failed and call the webhook; a failing webhook is only logged."""
    from prefect.events import emit_event

    if flow_run.parent_task_run_id:  # its parent run reports
        return
    event = make_event(flow.name, flow_run.name, str(flow_run.id), state.name, state.message)
    emit_event(**event)
    call_webhook(event["payload"])


@contextlib.contextmanager
def report_error(flow: str) -> Iterator[None]:
    """Call the webhook if the block fails: a run without a server has no hooks.

    Of a flow that another one calls, only the outer one reports.
    """
    outermost = not _reporting.get()
    token = _reporting.set(True)
    try:
        yield
    except Exception as error:
        if outermost:
            call_webhook(make_event(flow, flow, "", "Failed", str(error))["payload"])
        raise
    finally:
        _reporting.reset(token)


def make_event(
    flow: str, run: str, run_id: str, state: str | None, message: str | None
) -> dict[str, Any]:
    """The event of a failed run, by Prefect's names; its payload is also the webhook's."""
    name, reason = (printable(redact(text.strip())) for text in (run, message or ""))
    ids = {"prefect.resource.id": f"visionflows.run.{run_id}", "prefect.resource.name": name}
    about = {"flow": flow, "run": name, "run_id": run_id, "state": state or "", "message": reason}
    return {"event": EVENT, "resource": ids, "payload": about}


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
