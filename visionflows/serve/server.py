"""Prefect's server and UI, for their own pages alone, as `visionflows up` starts them.

    python3 -P -m visionflows.serve.server 127.0.0.1 4200 [https://photos.example.com]

`prefect server start` takes any Host and, from the websocket on, any Origin: a page that somebody
looks at in the same browser could run jobs. Here both must be the server's own.
"""

import contextlib
import ipaddress
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from visionflows.serve.address import is_any
from visionflows.serve.child_processes import end_with_parent
from visionflows.serve.state_folder import SERVER
from visionflows.storage.local import LocalStorage

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


_NAME = "asked by a name that is not this server's; `visionflows up --url` can give it another"


class Doors:
    """An ASGI application that hands on only what was asked by its own name, by its own pages."""

    def __init__(self, app: "ASGIApp", host: str, url: str = ""):
        self.app, self.any = app, is_any(host)
        self.names = {_same(host), "localhost", "127.0.0.1", "::1"}
        if self.any:
            import socket

            self.names |= {_same(socket.gethostname()), _same(socket.getfqdn())}
        if url:
            self.names.add(_name(urlsplit(url).netloc))
        self.origin = urlsplit(url).netloc.lower()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer 400 to another Host and 403 to another Origin; everything else is Prefect's."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = _headers(scope["headers"])
        if not self._is_ours(headers.get("host", "")):
            await _refuse(scope, receive, send, 400, _NAME)
        elif self._is_foreign(headers):
            await _refuse(scope, receive, send, 403, "asked by a page from elsewhere")
        else:
            await self.app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        """By name; a number cannot be made to mean this machine by somebody's name server."""
        name = _name(host)
        return name in self.names or (self.any and _is_number(name))

    def _is_foreign(self, headers: dict[str, str]) -> bool:
        """Whether a browser says that a page of another origin asks; a link may lead here."""
        origin = urlsplit(headers.get("origin", "")).netloc
        if "origin" in headers and origin not in (headers["host"], self.origin or None):
            return True
        link = ("navigate", "document")
        asked = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
        return headers.get("sec-fetch-site") in ("cross-site", "same-site") and asked != link


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {key.decode("latin-1"): value.decode("latin-1").lower() for key, value in raw}


def _name(host: str) -> str:
    """A Host without its port, and an IPv6 address without its brackets."""
    try:
        return _same(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return ""


def _same(name: str) -> str:
    """A name or an address, however it is written: MyBox, mybox. or 0:0:0:0:0:0:0:1."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(name))
    return name.lower().rstrip(".")


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse(scope: "Scope", receive: "Receive", send: "Send", status: int, why: str) -> None:
    from starlette.responses import PlainTextResponse

    if scope["type"] == "http":
        await PlainTextResponse(f"{why}\n", status)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": why})


def _turns_are_given_back_once() -> None:
    """Let a state that is forced keep its run's lease, as Prefect's rule for all others does.

    The UI forces Cancelling. Without its lease (Prefect 3.8.8) the run gives its turn back when it
    ends, and again when the lease runs out, within five minutes: by then the turn is another
    run's, and a third one is let in beside that.
    """
    from prefect.server.orchestration import core_policy

    forced = core_policy.MinimalFlowPolicy
    rules = [core_policy.PreserveDeploymentConcurrencyLeaseId, *forced.priority()]
    forced.priority = staticmethod(lambda: rules)  # type: ignore[method-assign]


def serve(host: str, port: int, url: str = "") -> None:
    """Run the server with its services until it is told to stop.

    Raises LockedError while another server has the same state folder.
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
        "timeout_graceful_shutdown": 1,  # a browser's connections would be waited for
    }
    _turns_are_given_back_once()
    with LocalStorage(Path(settings.home)).lock(SERVER):
        app = Doors(create_app(final=True), host, url)
        uvicorn.run(app, host=host, port=port, **options)


if __name__ == "__main__":
    end_with_parent(patience=2)
    os.umask(0o077)  # the database, and the key of what its blocks keep secret
    serve(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
