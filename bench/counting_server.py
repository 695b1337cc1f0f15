"""A Prefect server in a process of its own, which counts what it is asked and by which way.

    with counting_server() as server:
        …                                           # PREFECT_API_URL=server.url
        server.settle()
        server.told()

A thin layer around the server's own app sees every HTTP request, and every message of a websocket,
by which task runs tell their states: of the driver, and of Ray's workers too.
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

QUIET = 5.0  # seconds without a new task run, after which the server has written down all
OURS = "x-of-the-bench"  # the header of what is not counted
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


@dataclasses.dataclass
class Server:
    """A server that runs: where it is asked, and its process."""

    url: str
    pid: int

    def told(self) -> dict:
        """How many requests it had, how many messages of websockets, and what they were."""
        return self._ask("/counted")

    def task_runs(self, *states: str) -> int:
        """How many task runs it knows, of all states or of these."""
        told = {"task_runs": {"state": {"type": {"any_": states}}}} if states else {}
        return self._ask("/api/task_runs/count", told)

    def settle(self) -> float:
        """Wait until it has written down all task runs; seconds that it was behind."""
        began = last = time.monotonic()
        known = (-1, -1)
        while time.monotonic() < last + QUIET:
            now = self.task_runs(), self.task_runs("COMPLETED")
            if now != known:
                known, last = now, time.monotonic()
            time.sleep(0.2)
        return last - began

    def _ask(self, path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url.removesuffix("/api") + path, data)
        request.add_header("Content-Type", "application/json")
        request.add_header(OURS, "1")
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=120) as answer:
            return json.load(answer)


class Counted:
    """An ASGI app that counts what it hands on to another; `/counted` is its own answer."""

    def __init__(self, app):
        self.app = app
        self.requests: collections.Counter[str] = collections.Counter()
        self.messages: collections.Counter[str] = collections.Counter()

    async def __call__(self, scope, receive, send):
        path = _ID.sub("ID", scope.get("path", ""))
        if path == "/counted":
            await self._answer(send)
        elif scope["type"] == "websocket":
            await self.app(scope, self._heard(path, receive), send)
        else:
            if scope["type"] == "http" and OURS.encode() not in dict(scope["headers"]):
                self.requests[f"{scope['method']} {path}"] += 1
            await self.app(scope, receive, send)

    def _heard(self, path: str, receive):
        async def heard():
            message = await receive()
            self.messages[path] += message["type"] == "websocket.receive"
            return message

        return heard

    async def _answer(self, send) -> None:
        told = {
            "requests": self.requests.total(),
            "websocket_messages": self.messages.total(),
            "most": dict((self.requests + self.messages).most_common(8)),
        }
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})


def peak_mb(pid: int | str = "self") -> int:
    """The most memory that a process has held; not what it took over from the one that began it."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) >> 10


@contextlib.contextmanager
def counting_server() -> Iterator[Server]:
    """A server with a database of its own, for the block."""
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
    """The server's process: says its address once it answers, and runs until it is killed."""
    import uvicorn
    from prefect.server.api.server import create_app

    class Saying(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            print(f"http://127.0.0.1:{sockets[0].getsockname()[1]}/api", flush=True)

    listener = socket.create_server(("127.0.0.1", 0))
    Saying(uvicorn.Config(Counted(create_app()), log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    main()
