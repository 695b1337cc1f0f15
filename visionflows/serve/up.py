"""Prefect's server and UI, a worker and all deployments on this machine, until Ctrl-C.

    visionflows up                                     http://127.0.0.1:4200
    visionflows up --port 0 --state /var/lib/visionflows
    VISIONFLOWS_PASSWORD=… visionflows up --host 0.0.0.0

What the server knows (runs, logs, artifacts) is kept in ~/.visionflows/prefect.db, or in the
PostgreSQL that --database names, for the next time. Beside it lie the logs of the server and the
worker. The worker is started anew if it dies; if the server does, everything ends.
"""

import contextlib
import errno
import ipaddress
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from pydantic import BaseModel, ConfigDict, Field

from visionflows.errors import LockedError, SettingsError, VisionflowsError
from visionflows.places import is_local, place
from visionflows.places.local import LocalPlace
from visionflows.serve.children import Children

log = logging.getLogger("visionflows.up")

POOL = "visionflows"
USER = "admin"
DEPLOYMENTS = Path(__file__).parents[2] / "deployments" / "prefect.yaml"
_DATABASES = ("sqlite+aiosqlite://", "postgresql+asyncpg://")
_LEASES_ON_DISK = "prefect.server.concurrency.lease_storage.filesystem"
_HEALTHY_WITHIN = 120.0  # seconds; the first start also makes the database's tables


class UpError(VisionflowsError):
    """The server, the worker or the deployments could not be brought up, or went down."""


class UpSettings(BaseModel):
    """How to serve this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on; others need a password.")
    port: int = Field(4200, ge=0, le=65535, description="Port to listen on; 0: any free one.")
    state: Path = Field(Path("~/.visionflows"), description="Where the state is kept.")
    database: str | None = Field(None, description="postgresql+asyncpg://…; SQLite if empty.")
    password_file: Path | None = Field(None, description="A file that holds the password.")
    deployments: Path = Field(DEPLOYMENTS, description="The prefect.yaml to apply.")
    store: str = Field("store", description="Where runs keep what they make.")


def up(settings: UpSettings) -> None:
    """Serve until Ctrl-C (or SIGTERM), and leave nothing running.

    Raises SettingsError for a setting that cannot be used and UpError where something else has
    the port or the state folder, both before anything is started; UpError too where the server,
    or the deployments, cannot be brought up.
    """
    _check(settings)
    password = _password(settings)
    state = settings.state.expanduser().absolute()
    with _alone(state), _until_told_to_stop():
        port = _port(settings)
        env = _environment(settings, state, port, password)
        with Children(state / "logs") as children:
            _bring_up(children, settings, port, env)
            log.info(
                "ready at %s (Ctrl-C stops it); state and logs in %s", _url(settings, port), state
            )
            if password:
                log.info("the UI asks for %s:<the password>", USER)
            _watch(children, env)


def _bring_up(children: Children, settings: UpSettings, port: int, env: dict[str, str]) -> None:
    options = ("--host", settings.host, "--port", str(port))
    server = [sys.executable, "-P", "-m", "prefect", "server", "start", *options]
    children.start("server", server, env)
    log.info("starting the server; the first time it makes its database")
    _wait_healthy(children, env)
    log.info("applying %s", settings.deployments)
    applied = subprocess.run(
        [sys.executable, "-m", "visionflows.serve.up", str(settings.deployments)],
        env=env,
        cwd=settings.deployments.absolute().parent,
        stdin=subprocess.DEVNULL,
        stdout=children.log("deployments").open("wb"),
        stderr=subprocess.STDOUT,
    )
    if applied.returncode:
        raise UpError(_last_words(children, "deployments", "the deployments were not applied"))
    children.start("worker", _worker(), env)


def apply(deployments: str) -> None:
    """Make the work pool and apply a prefect.yaml on the server that PREFECT_API_URL names."""
    from visionflows.serve.provision import ensure_pool

    ensure_pool(POOL)
    arguments = ("--no-prompt", "deploy", "--all", "--prefect-file", Path(deployments).name)
    os.execv(sys.executable, _prefect(*arguments))


def _watch(children: Children, env: dict[str, str]) -> None:
    """Until a signal ends it: a worker that dies is started anew, a dead server ends everything."""
    while True:
        time.sleep(1)
        for name in children.exited():
            if name == "server":
                raise UpError(_last_words(children, "server", "the server went down"))
            log.warning("the worker died and is started anew; see %s", children.log("worker"))
            children.start("worker", _worker(), env)


def _wait_healthy(children: Children, env: dict[str, str]) -> None:
    deadline = time.monotonic() + _HEALTHY_WITHIN
    while time.monotonic() < deadline:
        if children.exited():
            raise UpError(_last_words(children, "server", "the server did not start"))
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{env['PREFECT_API_URL']}/health", timeout=5).status_code in (200, 401):
                return
        time.sleep(0.3)
    raise UpError(_last_words(children, "server", "the server was not healthy in time"))


def _last_words(children: Children, name: str, what: str) -> str:
    log_file = children.log(name)
    lines = [line for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
    return f"{what}: {lines[-1].strip() if lines else 'it said nothing'} (all of it: {log_file})"


def _prefect(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "visionflows.cli.prefect", *arguments]


def _worker() -> list[str]:
    return _prefect("worker", "start", "--pool", POOL, "--type", "process", "--name", POOL)


def _environment(settings: UpSettings, state: Path, port: int, password: str) -> dict[str, str]:
    """What the server, the worker and its runs see: Prefect's settings, the store, the folder."""
    local = "127.0.0.1" if _is_any(settings.host) else settings.host
    env = {
        **os.environ,
        "PREFECT_HOME": str(state),
        "PREFECT_API_URL": f"http://{_bracketed(local)}:{port}/api",
        "PREFECT_SERVER_UI_API_URL": "/api",  # as the browser reached the page
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # Turns that are held must be known after the server was started anew.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": _LEASES_ON_DISK,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "VISIONFLOWS_STORE": _absolute(settings.store),
        "VISIONFLOWS_FOLDER": os.getcwd(),
        "PYTHONUNBUFFERED": "1",
        # The folder in which it is started holds people's files, and no modules of ours; a run
        # is the `python3` that the deployments name, which must be this one.
        "PYTHONSAFEPATH": "1",
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
    }
    env.pop("VISIONFLOWS_PASSWORD", None)
    if settings.database:
        env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = settings.database
    if password:
        env["PREFECT_SERVER_API_AUTH_STRING"] = f"{USER}:{password}"
        env["PREFECT_API_AUTH_STRING"] = f"{USER}:{password}"
    return env


def _absolute(store: str) -> str:
    return store if not is_local(store) else str(place(store).path().absolute())


def _check(settings: UpSettings) -> None:
    if not settings.deployments.is_file():
        raise SettingsError(f"--deployments {settings.deployments}: no such file")
    if settings.database and not settings.database.startswith(_DATABASES):
        raise SettingsError("--database: give it as postgresql+asyncpg://user@host/name")


def _password(settings: UpSettings) -> str:
    """From the file, else VISIONFLOWS_PASSWORD: a parameter could be read by every user."""
    password = os.environ.get("VISIONFLOWS_PASSWORD", "")
    if settings.password_file:
        try:
            password = settings.password_file.read_text().strip()
        except OSError as error:
            raise SettingsError(
                f"--password-file {settings.password_file}: cannot be read ({error.strerror})"
            ) from error
    if not password and not _is_loopback(settings.host):
        raise SettingsError(
            f"--host {settings.host}: whoever reaches this machine could run jobs on it; "
            "set VISIONFLOWS_PASSWORD, or name a --password-file"
        )
    return password


def _port(settings: UpSettings) -> int:
    """A port that nothing listens on. Raises UpError where something does."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise UpError(
                f"{settings.host}:{settings.port}: {_occupant(settings, error)}; "
                "stop that, or give another --port (0: any free one)"
            ) from error
        return probe.getsockname()[1]


def _occupant(settings: UpSettings, error: OSError) -> str:
    if error.errno != errno.EADDRINUSE:
        return f"cannot be listened on ({error.strerror})"
    with contextlib.suppress(httpx.HTTPError):
        url = f"http://{_bracketed(settings.host)}:{settings.port}/api/health"
        if httpx.get(url, timeout=2).status_code in (200, 401):
            return "a Prefect server runs there already"
    return "another program listens there already"


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Hold the state folder: two servers on one database would both hand out its runs."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(LocalPlace(state).lock("up.lock"))
        except LockedError as error:
            raise UpError(
                f"{state}: visionflows is up from there already; stop it, or give another --state"
            ) from error
        yield


@contextlib.contextmanager
def _until_told_to_stop() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block and are no failure; what it holds is let go on the way."""

    def stop(*_) -> None:
        for number in before:  # asked twice, it still stops what it started
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        log.info("stopped")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _url(settings: UpSettings, port: int) -> str:
    shown = socket.gethostname() if _is_any(settings.host) else settings.host
    return f"http://{_bracketed(shown)}:{port}"


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::")


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


if __name__ == "__main__":
    apply(sys.argv[1])
