"""A Prefect server for the moment: in a process of its own that ends with ours, however that ends.

    with server_if_none():
        demo(Path("demo"))

What it knows lies in a temporary folder and goes with it. The server holds the other end of a pipe
whose end in this process nobody else has: when that closes, by our will or with our death, the
server clears its folder and is gone. It has a session of its own, so that Ctrl-C reaches only us.
"""

import atexit
import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from visionflows.errors import RunError
from visionflows.orchestration import preflight, server

if TYPE_CHECKING:
    import uvicorn

PATIENCE = 180.0  # seconds; its first act is to make its database, which is slow on a slow disk


@contextlib.contextmanager
def server_if_none() -> Iterator[None]:
    """The flows of the block run on the server that is named, else on one for this process.

    That one stays until the process ends, for what Prefect has still to tell it then. Raises
    RunError where it does not start.
    """
    if server.is_named():
        yield
        return
    preflight.loopback_past_proxies()
    home = Path(tempfile.mkdtemp(prefix="visionflows-server-"))
    os.environ["PREFECT_HOME"] = str(home)  # before Prefect is imported: the user's is not needed
    url = _started(home)
    os.environ["PREFECT_API_URL"] = url
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home}):
        yield


def _started(home: Path) -> str:
    log = (home / "server.log").open("w+b")
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(home)],
        env=os.environ | {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
    )
    atexit.register(_stop, process)  # after Prefect's own exit calls, which threading runs
    assert process.stdout
    url = _line(process.stdout)
    if not url:
        _stop(process)
        log.seek(0)
        said = log.read().decode(errors="replace").split("\n")
        raise RunError(
            f"Prefect's server for this run did not start: {said[-2] if said[1:] else 'no word'}; "
            "name a server with PREFECT_API_URL, or run `visionflows up`"
        )
    return url


def _line(output: IO[bytes]) -> str:
    ready, _, _ = select.select([output], [], [], PATIENCE)
    return output.readline().decode().strip() if ready else ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()


def main(home: Path) -> None:
    """The server's own process: says its URL once it answers; ends when its input does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its parent, not before
    threading.Thread(target=_serve, args=(home,), daemon=True).start()
    sys.stdin.buffer.read()
    shutil.rmtree(home, ignore_errors=True)
    os._exit(0)


def _serve(home: Path) -> None:
    try:
        _answer(home)
    finally:
        os._exit(1)


def _answer(home: Path) -> None:
    import uvicorn

    database = f"sqlite+aiosqlite:///{home}/prefect.db"
    os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
    listener = socket.create_server(("127.0.0.1", 0))
    app = "prefect.server.api.server:create_app"
    serving = uvicorn.Server(uvicorn.Config(app, factory=True, log_level="error"))
    port = listener.getsockname()[1]
    threading.Thread(target=_tell, args=(serving, port), daemon=True).start()
    serving.run(sockets=[listener])


def _tell(serving: "uvicorn.Server", port: int) -> None:
    while not serving.started:
        time.sleep(0.05)
    print(f"http://127.0.0.1:{port}/api", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
