"""Environment variables of the server, the worker and its runs."""

import os
import sys
from pathlib import Path

from visionflows.errors import SettingsError
from visionflows.orchestration.heartbeat import FREQUENCY, HEARTBEAT
from visionflows.orchestration.preflight import bypass_proxies
from visionflows.serve import address
from visionflows.serve.child_processes import UP
from visionflows.serve.settings import USER, UpSettings
from visionflows.storage import open_storage

# Variables that may hold the password of the database; the second prefix is Prefect's older one.
_DATABASE = ("PREFECT_SERVER_DATABASE_", "PREFECT_API_DATABASE_", "VISIONFLOWS_DATABASE")
_LEASES_ON_DISK = "prefect.server.concurrency.lease_storage.filesystem"


def worker_environment(
    settings: UpSettings, state: Path, port: int, password: str
) -> dict[str, str]:
    """The environment of the worker and its runs.

    Runs open untrusted files, so only `server_environment` names the database.
    """
    url = address.local_url(settings.host, port)
    env = {
        **os.environ,
        "PREFECT_HOME": str(state),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_UI_API_URL": "/api",  # relative to the page's own host
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(state / "ui"),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Pages of other origins can read no answer and send nothing.
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": settings.url or url,
        # Concurrency slots in use must survive a restart of the server.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": _LEASES_ON_DISK,
        FREQUENCY: str(HEARTBEAT),
        UP: "1",
        "VISIONFLOWS_STORE": open_storage(settings.store).absolute(),
        "VISIONFLOWS_FOLDER": os.getcwd(),
        "PYTHONUNBUFFERED": "1",
        # The working folder holds user files: import nothing from it. The deployments run
        # `python3`, which must be this Python.
        "PYTHONSAFEPATH": "1",
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
    }
    env.pop("VISIONFLOWS_PASSWORD", None)
    env = {name: value for name, value in env.items() if not name.startswith(_DATABASE)}
    bypass_proxies(env, *([] if address.is_any(settings.host) else [settings.host]))
    if password:
        env["PREFECT_SERVER_API_AUTH_STRING"] = f"{USER}:{password}"
        env["PREFECT_API_AUTH_STRING"] = f"{USER}:{password}"
    return env


def server_environment(env: dict[str, str], settings: UpSettings) -> dict[str, str]:
    """The environment of the server: that of the worker, and the database."""
    database = {name: value for name, value in os.environ.items() if name.startswith(_DATABASE)}
    if settings.database:
        database["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = settings.database
    return env | database


def read_password(settings: UpSettings) -> str:
    """The password from its file or VISIONFLOWS_PASSWORD; every user can read command lines.

    Raises SettingsError if the file cannot be read, or if other machines have access without one.
    """
    password = os.environ.get("VISIONFLOWS_PASSWORD", "")
    if settings.password_file:
        try:
            password = settings.password_file.read_text("utf-8").strip()
        except OSError as error:
            raise SettingsError(
                f"--password-file {settings.password_file}: cannot be read ({error.strerror})"
            ) from error
    if not (password.isascii() and password.isprintable()):
        name = "--password-file" if settings.password_file else "VISIONFLOWS_PASSWORD"
        raise SettingsError(
            f"{name}: has characters that not every client sends alike; use letters, digits and "
            "signs of ASCII"
        )
    if not password and not address.is_loopback(settings.host):
        raise SettingsError(
            f"--host {settings.host}: other machines could run jobs here; set "
            "VISIONFLOWS_PASSWORD or --password-file"
        )
    return password
