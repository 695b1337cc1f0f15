"""The promotion event, and the rule of prefect.yaml that it triggers."""

import contextlib
import http.server
import threading
import uuid

import pytest
import yaml
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_CLOUD_API_URL,
    temporary_settings,
)

from visionflows.errors import ServerError
from visionflows.orchestration import events, server
from visionflows.serve.provision import Rule, _event_rule
from visionflows.serve.settings import DEPLOYMENTS


@pytest.mark.parametrize(
    "model, scored", [("pets.production", True), ("pets.latest", False), ("cars.production", False)]
)
def test_the_rule_scores_with_the_promoted_model_of_its_name(model, scored):
    (build,) = yaml.safe_load(DEPLOYMENTS.read_text(encoding="utf-8"))["build"]
    rule = Rule(**build["visionflows.serve.provision.provision"]["rules"][0])
    made = _event_rule(rule, uuid.uuid4())
    trigger = EventTrigger.model_validate(made.trigger.model_dump(mode="json"))
    event = {
        "occurred": "2026-01-01T00:00:00Z",
        "received": "2026-01-01T00:00:00Z",
        "id": uuid.uuid4(),
        "event": events.PROMOTED,
        "resource": {"prefect.resource.id": f"visionflows.model.{model}"},
    }
    assert trigger.covers(ReceivedEvent.model_validate(event)) == scored
    assert "payload.get('store')" in rule.parameters["store"]


@contextlib.contextmanager
def answering(status: int, posted: int):
    """The URL of a server that answers GET and POST with these, and knows no websockets."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "3")
            self.end_headers()
            self.wfile.write(b'"3"')

        def do_GET(self):
            self.answer(400 if "upgrade" in self.headers else status)

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.answer(posted)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/api"
        running.shutdown()


@pytest.mark.parametrize("status", [204, 404, 502])
def test_a_promotion_says_whether_the_server_received_its_event(monkeypatch, status, tmp_path):
    """Behind a proxy without websockets, which Prefect's own way needs, and on an older server."""
    monkeypatch.setattr(events.registry, "promote", lambda *_: ("pets", "v1"))
    settings = {PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False}
    with answering(200, status) as url, temporary_settings({PREFECT_API_URL: url, **settings}):
        if status == 204:
            assert events.promote("pets", str(tmp_path)) == "pets@production"
            return
        with pytest.raises(ServerError) as caught:
            events.promote("pets", str(tmp_path))
    message = str(caught.value)
    assert message.startswith("pets@v1: promoted to production, but the server did not receive the")
    assert "\n" not in message


def test_a_refused_key_of_prefect_cloud_is_named():
    with answering(401, 401) as url:
        cloud = {PREFECT_API_URL: f"{url}/accounts/1/workspaces/2", PREFECT_CLOUD_API_URL: url}
        with temporary_settings(cloud), pytest.raises(ServerError, match="set PREFECT_API_KEY to"):
            server.check()
        with (
            temporary_settings({PREFECT_API_URL: url}),
            pytest.raises(ServerError, match="set PREFECT_API_AUTH_STRING=admin:"),
        ):
            server.check()
