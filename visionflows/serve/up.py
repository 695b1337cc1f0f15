"""A Prefect server with its UI, a worker and all deployments on this machine, until Ctrl-C."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from visionflows.errors import LockedError, SettingsError
from visionflows.orchestration import preflight
from visionflows.serve import address, deploy, interrupted_runs
from visionflows.serve.child_processes import ChildProcesses, last_line, supervised
from visionflows.serve.environment import read_password, server_environment, worker_environment
from visionflows.serve.settings import POOL, SERVER_LOCK, UP_LOCK, USER, UpError, UpSettings
from visionflows.storage.local import LocalStorage

log = logging.getLogger("visionflows.up")

# Names that `up`, and Prefect in its PREFECT_HOME, create there.
_OWN_NAMES = (
    *("up.lock", "server.lock", "logs", "ui", "prefect.db", "storage", "profiles.toml"),
    *("memo_store.toml", "concurrency", "encryption", "events", "workers", "."),
)
_DATABASES = ("sqlite+aiosqlite://", "postgresql+asyncpg://")
_DAMAGED = "is damaged; restore a copy (docs/how-to/back-up.md), or move it away and lose its runs"
_DATABASE_ERRORS = {  # by words of SQLite, alembic and PostgreSQL
    "Can't locate revision": "was written by a later Prefect; install that version of visionflows "
    "again, or restore a copy from before",
    "file is not a database": _DAMAGED,
    "database disk image is malformed": _DAMAGED,
}
_START_TIMEOUT = 120.0  # seconds; the first start also creates the database's tables
_SLEEP = 600.0  # seconds of wall clock beyond the monotonic clock: the machine was suspended


def up(settings: UpSettings) -> None:
    """Serve until Ctrl-C, SIGTERM or SIGHUP, and leave no process running.

    Raises SettingsError, StorageError (a folder is not writable) or UpError (port or state folder
    is in use) before anything starts; UpError if the server or the deployments fail.
    SystemExit(128 + signal) after a signal.
    """
    _check(settings)
    password = read_password(settings)
    preflight.bypass_proxies()
    preflight.check_folders(settings.state)
    state = settings.state.expanduser().absolute()
    with lock_state(state):
        port = address.free_port(settings.host, settings.port)
        env = worker_environment(settings, state, port, password)
        with supervised(), ChildProcesses(state / "logs") as children:
            try:
                _start(children, settings, port, env)
                url = settings.url or address.public_url(settings.host, port)
                log.info("ready at %s (Ctrl-C stops it); state and logs in %s", url, state)
                if password:
                    log.info("log in to the UI as %s:<the password>", USER)
                _watch(children, env)
            except SystemExit:
                count = _stop(children, env)
                note = f"; {count} run(s) interrupted: run them again" if count else ""
                log.info("stopped%s", note)
                raise
            except httpx.HTTPError as error:
                raise UpError(
                    f"the server did not answer ({error or type(error).__name__}); see "
                    f"{children.log('server')}"
                ) from error


def _start(children: ChildProcesses, settings: UpSettings, port: int, env: dict[str, str]) -> None:
    arguments = (settings.host, str(port), *([settings.url] if settings.url else []))
    server = [sys.executable, "-P", "-m", "visionflows.serve.server", *arguments]
    children.start("server", server, server_environment(env, settings))
    log.info("starting the server; the first start creates its database")
    _wait_healthy(children, env)
    deploy.apply(settings.deployments, env, children.log("deployments"))
    interrupted_runs.mark_interrupted(env)
    missed = interrupted_runs.cancel_missed(env)
    if missed:
        log.info("%d missed run(s) skipped; the latest of each schedule runs", missed)
    children.start("worker", _worker_command(), env)


def _watch(children: ChildProcesses, env: dict[str, str]) -> None:
    """Restart a worker that dies, until a signal; a dead server ends everything."""
    offset = time.time() - time.monotonic()
    while True:
        time.sleep(1)
        for name in children.exited():
            if name == "server":
                raise UpError(children.describe_exit(name, "the server stopped"))
            log.warning("%s", children.describe_exit(name, "the worker died and is restarted"))
            children.end_orphans()  # its runs
            with contextlib.suppress(httpx.HTTPError):  # a busy server: they end by themselves
                interrupted_runs.mark_interrupted(env)
            children.start("worker", _worker_command(), env)
        if time.time() - time.monotonic() - offset > _SLEEP:
            offset = time.time() - time.monotonic()
            with contextlib.suppress(httpx.HTTPError):  # a busy server: every missed run runs
                interrupted_runs.cancel_missed(env)


def _stop(children: ChildProcesses, env: dict[str, str]) -> int:
    """Stop the worker and its runs, then the server; how many runs were interrupted."""
    count = 0
    if "worker" in children.running:
        family = children.stop("worker", patience=4)
        with contextlib.suppress(httpx.HTTPError):  # the server died first: heartbeats decide
            count = interrupted_runs.mark_interrupted(env, family)
    if "server" in children.running:
        children.stop("server")
    return count


def _wait_healthy(children: ChildProcesses, env: dict[str, str]) -> None:
    server_log = children.log("server")
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        if children.exited():
            raise UpError(_describe_start(children))
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{env['PREFECT_API_URL']}/health", timeout=5, trust_env=False)
            if answer.status_code == 200:
                return
        time.sleep(0.3)
    raise UpError(last_line(server_log, "the server did not become healthy"))


def _describe_start(children: ChildProcesses) -> str:
    output = children.log("server").read_text(encoding="utf-8", errors="replace")
    for words, reason in _DATABASE_ERRORS.items():
        if words in output:
            return (
                f"the server did not start: its database {reason} (log: {children.log('server')})"
            )
    return children.describe_exit("server", "the server did not start")


def _worker_command() -> list[str]:
    options = ("worker", "start", "--pool", POOL, "--type", "process", "--name", POOL)
    return [sys.executable, "-P", "-m", "visionflows.cli.prefect", *options]


def _check(settings: UpSettings) -> None:
    if not settings.deployments.is_file():
        raise SettingsError(f"--deployments {settings.deployments}: no such file")
    if settings.database and not settings.database.startswith(_DATABASES):
        raise SettingsError("--database: use the form postgresql+asyncpg://user@host/name")
    url = urlsplit(settings.url)
    if settings.url and not (url.scheme in ("http", "https") and url.hostname):
        raise SettingsError(f"--url {settings.url}: use the form https://photos.example.com")
    if url.path.strip("/") or url.query or url.fragment:
        raise SettingsError(
            f"--url {settings.url}: the UI needs a host name of its own, without a path; use the "
            "form https://photos.example.com"
        )


@contextlib.contextmanager
def lock_state(state: Path) -> Iterator[None]:
    """Lock the state folder: two servers on one database would both start its runs.

    Raises UpError while another `up`, or a server that one has left, holds it.
    """
    with contextlib.ExitStack() as locks:
        try:
            locks.enter_context(LocalStorage(state).lock(UP_LOCK))
            with LocalStorage(state).lock(SERVER_LOCK):
                pass
        except LockedError as error:
            raise UpError(
                f"{state}: visionflows is up with this state already; stop it, or give another "
                "--state"
            ) from error
        _restrict_access(state)
        yield


def _restrict_access(state: Path) -> None:
    """Let only the owner read the database and its key: they hold the secrets of blocks.

    A folder that also has other files keeps its permissions, with a warning.
    """
    others = [path.name for path in state.iterdir() if not path.name.startswith(_OWN_NAMES)]
    try:
        if not others:
            state.chmod(0o700)
        elif state.stat().st_mode & 0o077:
            reason = f"permissions are kept because of other files ({min(others)})"
            log.warning("%s: other users can read it; %s", state, reason)
        for database in state.glob("prefect.db*"):
            database.chmod(0o600)
    except OSError as error:
        raise UpError(f"{state}: {error.strerror}; it must belong to the current user") from error
