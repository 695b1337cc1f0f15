"""Prefect's server and UI, a worker and all deployments on this machine, until Ctrl-C.

    visionflows up                                     http://127.0.0.1:4200
    visionflows up --port 0 --state /var/lib/visionflows
    VISIONFLOWS_PASSWORD=… visionflows up --host 0.0.0.0

What the server knows (runs, logs, artifacts) is kept in ~/.visionflows/prefect.db, or in the
PostgreSQL that --database names, for the next time. Beside it lie the logs of the server and the
worker. The worker is started anew if it dies; if the server does, everything ends.
"""

import contextlib
import logging
import sys
import time

import httpx

from visionflows.errors import SettingsError
from visionflows.orchestration import preflight
from visionflows.serve import address, deploy, interrupted_runs
from visionflows.serve.child_processes import Children
from visionflows.serve.environment import environment, of_server, password
from visionflows.serve.process_supervisor import attended
from visionflows.serve.settings import POOL, USER, UpError, UpSettings
from visionflows.serve.state_folder import alone

log = logging.getLogger("visionflows.up")

_DATABASES = ("sqlite+aiosqlite://", "postgresql+asyncpg://")
_HEALTHY_WITHIN = 120.0  # seconds; the first start also makes the database's tables
_SLEPT = 600.0  # seconds by the clock on the wall that did not pass here: the machine was asleep


def up(settings: UpSettings) -> None:
    """Serve until Ctrl-C, SIGTERM or SIGHUP, and leave nothing running, however this ends.

    Raises SettingsError for a setting that cannot be used, PlaceError for a folder that cannot be
    written, and UpError where something else has the port or the state folder, all before
    anything is started; UpError too where the server, or the deployments, cannot be brought up.
    SystemExit(128 + signal) when it was told to stop.
    """
    _check(settings)
    secret = password(settings)
    preflight.loopback_past_proxies()
    preflight.folders_can_be_written(settings.state)
    state = settings.state.expanduser().absolute()
    with alone(state):
        port = address.free_port(settings.host, settings.port)
        env = environment(settings, state, port, secret)
        with attended(), Children(state / "logs") as children:
            try:
                _bring_up(children, settings, port, env)
                where = settings.url or address.shown(settings.host, port)
                log.info("ready at %s (Ctrl-C stops it); state and logs in %s", where, state)
                if secret:
                    log.info("the UI asks for %s:<the password>", USER)
                _watch(children, env)
            except SystemExit:
                cut = _stop(children, env)
                log.info("stopped%s", f"; {cut} run(s) cut short: run them again" if cut else "")
                raise
            except httpx.HTTPError as error:
                told = f"the server did not answer as it should ({error or type(error).__name__})"
                raise UpError(f"{told}; see {children.log('server')}") from error


def _bring_up(children: Children, settings: UpSettings, port: int, env: dict[str, str]) -> None:
    where = (settings.host, str(port), *([settings.url] if settings.url else []))
    server = [sys.executable, "-P", "-m", "visionflows.serve.server", *where]
    children.start("server", server, of_server(env, settings))
    log.info("starting the server; the first time it makes its database")
    _wait_healthy(children, env)
    deploy.apply(settings.deployments, env, children.log("deployments"))
    if address.is_loopback(settings.host):  # else a run may be another machine's
        interrupted_runs.cut_short(env)
    missed = interrupted_runs.skip_missed(env)
    if missed:
        log.info("%d missed run(s) are left out; the latest of each schedule runs", missed)
    children.start("worker", _worker(), env)


def _watch(children: Children, env: dict[str, str]) -> None:
    """Until a signal ends it: a worker that dies is started anew, a dead server ends everything."""
    apart = time.time() - time.monotonic()
    while True:
        time.sleep(1)
        for name in children.exited():
            if name == "server":
                raise UpError(deploy.last_words(children.log(name), "the server went down"))
            log.warning("the worker died and is started anew; see %s", children.log("worker"))
            children.start("worker", _worker(), env)
        if time.time() - time.monotonic() - apart > _SLEPT:
            apart = time.time() - time.monotonic()
            with contextlib.suppress(httpx.HTTPError):  # a busy server: each missed run runs
                interrupted_runs.skip_missed(env)


def _stop(children: Children, env: dict[str, str]) -> int:
    """End the worker and its runs, say so of them on the server, then end the server.

    How many runs were cut short is returned.
    """
    cut = 0
    if "worker" in children.running:
        family = children.stop("worker", patience=4)
        with contextlib.suppress(httpx.HTTPError):  # it went down first: the 90 s rule tells
            cut = interrupted_runs.cut_short(env, family)
    if "server" in children.running:
        children.stop("server")
    return cut


def _wait_healthy(children: Children, env: dict[str, str]) -> None:
    said = children.log("server")
    deadline = time.monotonic() + _HEALTHY_WITHIN
    while time.monotonic() < deadline:
        if children.exited():
            raise UpError(deploy.last_words(said, "the server did not start"))
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{env['PREFECT_API_URL']}/health", timeout=5, trust_env=False)
            if answer.status_code == 200:
                return
        time.sleep(0.3)
    raise UpError(deploy.last_words(said, "the server was not healthy in time"))


def _worker() -> list[str]:
    options = ("worker", "start", "--pool", POOL, "--type", "process", "--name", POOL)
    return [sys.executable, "-P", "-m", "visionflows.cli.prefect", *options]


def _check(settings: UpSettings) -> None:
    if not settings.deployments.is_file():
        raise SettingsError(f"--deployments {settings.deployments}: no such file")
    if settings.database and not settings.database.startswith(_DATABASES):
        raise SettingsError("--database: give it as postgresql+asyncpg://user@host/name")
    if settings.url and not settings.url.startswith(("http://", "https://")):
        raise SettingsError(f"--url {settings.url}: give it as https://photos.example.com")
