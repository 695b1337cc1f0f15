"""Tell others that a run failed or crashed: an event on the server, and a webhook if one is set.

@flow(on_failure=[tell], on_crashed=[tell])

VISIONFLOWS_WEBHOOK is a URL that takes a POST of JSON, such as a chat's incoming webhook: `text`
is the line to show, the other keys say which run it was. Set it where the worker runs.
"""

import logging
import os
from typing import TYPE_CHECKING, Any

from visionflows.orchestration.addresses import public

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, State

log = logging.getLogger("visionflows.notify")

EVENT = "visionflows.run.failed"


def tell(flow: "Flow[Any, Any]", flow_run: "FlowRun", state: "State[Any]") -> None:
    """Emit visionflows.run.failed and call the webhook; a webhook that fails is only logged."""
    from prefect.events import emit_event

    if flow_run.parent_task_run_id:  # the run that this one is a part of will tell
        return
    message = public((state.message or "").strip())
    words: dict[str, str] = {
        "flow": flow.name,
        "run": public(flow_run.name or ""),
        "run_id": str(flow_run.id),
        "state": state.name or "",
        "message": message,
    }
    resource = {
        "prefect.resource.id": f"visionflows.run.{flow_run.id}",
        "prefect.resource.name": words["run"],
    }
    emit_event(EVENT, resource=resource, payload=words)
    url = os.environ.get("VISIONFLOWS_WEBHOOK")
    if url:
        _post(url, {"text": f"{words['run']}: {words['state']}: {message}", **words})


def _post(url: str, words: dict[str, str]) -> None:
    import httpx

    try:
        httpx.post(url, json=words, timeout=10).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        kind = type(error).__name__  # its text may hold the URL, which is a secret
        log.warning("VISIONFLOWS_WEBHOOK could not be told (%s)", kind)
