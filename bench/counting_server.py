"""A Prefect server in its own process that counts HTTP requests and websocket messages.

    with counting_server() as server:
        …                                           # PREFECT_API_URL=server.url
        server.settle()
        server.counts()

Middleware around the server's app sees every HTTP request and every websocket message. Task runs
send their states over a websocket, from the driver and from Ray's workers.
"""

import collections
import contextlib
import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

QUIET = 5.0  # seconds without a new task run, after which the server has stored all
UNCOUNTED = "x-of-the-bench"  # requests with this header are not counted
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


@dataclasses.dataclass
class Server:
    """A running server: its API URL and process ID."""

    url: str
    pid: int

    def counts(self) -> dict:
        """The number of requests and websocket messages, and the most frequent ones."""
        return self._get("/counted")

    def task_runs(self, *states: str) -> int:
        """The number of task runs, in all states or in these."""
        body = {"task_runs": {"state": {"type": {"any_": states}}}} if states else {}
        return self._get("/api/task_runs/count", body)

    def settle(self) -> float:
        """Wait until the server has stored all task runs; return the seconds that took."""
        start = last = time.monotonic()
        known = (-1, -1)
        while time.monotonic() < last + QUIET:
            now = self.task_runs(), self.task_runs("COMPLETED")
            if now != known:
                known, last = now, time.monotonic()
            time.sleep(0.2)
        return last - start

    def _get(self, path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url.removesuffix("/api") + path, data)
        request.add_header("Content-Type", "application/json")
        request.add_header(UNCOUNTED, "1")
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=120) as response:
            return json.load(response)


class CountingMiddleware:
    """ASGI middleware that counts requests and messages, and serves the counts at `/counted`."""

    def __init__(self, app):
        self.app = app
        self.requests: collections.Counter[str] = collections.Counter()
        self.messages: collections.Counter[str] = collections.Counter()

    async def __call__(self, scope, receive, send):
        path = _ID.sub("ID", scope.get("path", ""))
        if path == "/counted":
            await self._send_counts(send)
        elif scope["type"] == "websocket":
            await self.app(scope, self._counting(path, receive), send)
        else:
            if scope["type"] == "http" and UNCOUNTED.encode() not in dict(scope["headers"]):
                self.requests[f"{scope['method']} {path}"] += 1
            await self.app(scope, receive, send)

    def _counting(self, path: str, receive):
        async def counting():
            message = await receive()
            self.messages[path] += message["type"] == "websocket.receive"
            return message

        return counting

    async def _send_counts(self, send) -> None:
        counts = {
            "requests": self.requests.total(),
            "websocket_messages": self.messages.total(),
            "most": dict((self.requests + self.messages).most_common(8)),
        }
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": json.dumps(counts).encode()})


def peak_mb(pid: int | str = "self") -> int:
    """Peak memory of a process in MB, from its own start on (not that of its parent)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) >> 10


@contextlib.contextmanager
def counting_server() -> Iterator[Server]:
    """Run a server with an empty database inside the block."""
    home = tempfile.mkdtemp(prefix="counting-")
    off = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_UI_ENABLED": "0"}
    inherited = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    process = subprocess.Popen(
        [sys.executable, __file__],
        env=inherited | off | {"PREFECT_HOME": home},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().strip()
        assert url, "the Prefect server did not start"
        yield Server(url, process.pid)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def main() -> None:
    """Run the server: print its URL when it is ready, and run until killed."""
    import uvicorn
    from prefect.server.api.server import create_app

    class PrintingServer(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            print(f"http://127.0.0.1:{sockets[0].getsockname()[1]}/api", flush=True)

    listener = socket.create_server(("127.0.0.1", 0))
    PrintingServer(uvicorn.Config(CountingMiddleware(create_app()), log_level="error")).run(
        sockets=[listener]
    )


if __name__ == "__main__":
    main()
