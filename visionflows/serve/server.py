"""Prefect's server and UI, as `visionflows up` starts them: with a check of Host and Origin.

`prefect server start` accepts any Host and, for websockets, any Origin, so that a page of another
site could run jobs through a browser on this machine.
"""

import contextlib
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from visionflows.serve.address import is_any
from visionflows.serve.child_processes import end_with_parent
from visionflows.serve.settings import SERVER_LOCK
from visionflows.storage.local import LocalStorage

_UNKNOWN_HOST = "unknown host name; add it with `visionflows up --url`"


class HostCheck:
    """ASGI middleware that accepts requests to allowed hosts from the server's own pages."""

    def __init__(self, app: ASGIApp, host: str, url: str = ""):
        self.app, self.allows_addresses = app, is_any(host)
        self.hosts = {_normalize(host), "localhost", "127.0.0.1", "::1"}
        if self.allows_addresses:
            self.hosts |= {_normalize(socket.gethostname()), _normalize(socket.getfqdn())}
        if url:
            self.hosts.add(_host_name(urlsplit(url).netloc))
        self.origin = urlsplit(url).netloc.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 400 to an unknown Host and 403 to another Origin; pass on all other requests."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers, answer = Headers(scope=scope), self.app
        if not self._is_allowed(headers.get("host", "")):
            answer = PlainTextResponse(f"{_UNKNOWN_HOST}\n", 400)
        elif self._is_cross_site(headers):
            answer = PlainTextResponse("request of a page of another site\n", 403)
        await answer(scope, receive, send)

    def _is_allowed(self, host: str) -> bool:
        """Whether a Host is allowed. DNS rebinding needs a name, so any address is safe."""
        name = _host_name(host)
        return name in self.hosts or (self.allows_addresses and _is_address(name))

    def _is_cross_site(self, headers: Headers) -> bool:
        """Whether a browser sends it for a page of another origin; links are allowed."""
        origin = urlsplit(headers.get("origin", "")).netloc.lower()
        if "origin" in headers and origin not in (headers["host"].lower(), self.origin or None):
            return True
        fetch = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
        is_link = fetch == ("navigate", "document")
        return headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_link


def _host_name(host: str) -> str:
    """A Host header without its port, and an IPv6 address without brackets."""
    try:
        return _normalize(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return ""


def _normalize(name: str) -> str:
    """One spelling of a name or address: MyBox, mybox. or 0:0:0:0:0:0:0:1."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(name))
    return name.lower().rstrip(".")


def _is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False


def _keep_lease_of_forced_states() -> None:
    """Let a forced state keep its run's concurrency lease, as Prefect's rule for others does.

    The UI forces Cancelling. Without its lease (Prefect 3.8.8) the run releases its slot when it
    ends, and again when the lease expires within five minutes: by then the slot belongs to another
    run, and a third one would start beside it.
    """
    from prefect.server.orchestration import core_policy

    policy = core_policy.MinimalFlowPolicy
    rules = [core_policy.PreserveDeploymentConcurrencyLeaseId, *policy.priority()]
    policy.priority = staticmethod(lambda: rules)  # type: ignore[method-assign]


def serve(host: str, port: int, url: str = "") -> None:
    """Run the server with its services until it is stopped.

    Raises LockedError while another server uses the same state folder.
    """
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    options: dict[str, Any] = {
        "timeout_keep_alive": settings.server.api.keepalive_timeout,
        "ws_ping_interval": settings.server.api.websocket_ping_interval,
        "ws_ping_timeout": settings.server.api.websocket_ping_timeout,
        "log_level": settings.server.logging_level.lower(),
        "timeout_graceful_shutdown": 1,  # browsers keep connections open
    }
    _keep_lease_of_forced_states()
    with LocalStorage(Path(settings.home)).lock(SERVER_LOCK):
        app = HostCheck(create_app(final=True), host, url)
        uvicorn.run(app, host=host, port=port, **options)


if __name__ == "__main__":
    end_with_parent(patience=2)
    os.umask(0o077)  # the database, and the key of the secrets of its blocks
    serve(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
