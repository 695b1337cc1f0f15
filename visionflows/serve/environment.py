"""What the server, the worker and its runs see: Prefect's settings, the store, the folder.

env = environment(settings, state, port, password(settings))
"""

import os
import sys
from pathlib import Path

from visionflows.errors import SettingsError
from visionflows.orchestration.heartbeat import FREQUENCY, HEARTBEAT
from visionflows.orchestration.preflight import loopback_past_proxies
from visionflows.serve import address
from visionflows.serve.child_processes import UP
from visionflows.serve.settings import USER, UpSettings
from visionflows.storage import absolute

# What may hold the password of the database; the second is what Prefect called it before.
_DATABASE = ("PREFECT_SERVER_DATABASE_", "PREFECT_API_DATABASE_", "VISIONFLOWS_DATABASE")
_LEASES_ON_DISK = "prefect.server.concurrency.lease_storage.filesystem"


def environment(settings: UpSettings, state: Path, port: int, password: str) -> dict[str, str]:
    """The environment of all that is started; the UI's password is in it, and nowhere else.

    The worker and its runs open files of strangers: where the database is, `of_server` says alone.
    """
    here = address.local(settings.host, port)
    env = {
        **os.environ,
        "PREFECT_HOME": str(state),
        "PREFECT_API_URL": f"{here}/api",
        "PREFECT_SERVER_UI_API_URL": "/api",  # as the browser reached the page
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(state / "ui"),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Pages from elsewhere get no answer that they can read, and can send nothing.
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": settings.url or here,
        # Turns that are held must be known after the server was started anew.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": _LEASES_ON_DISK,
        FREQUENCY: str(HEARTBEAT),
        UP: "1",
        "VISIONFLOWS_STORE": absolute(settings.store),
        "VISIONFLOWS_FOLDER": os.getcwd(),
        "PYTHONUNBUFFERED": "1",
        # The folder in which it is started holds people's files, and no modules of ours; a run
        # is the `python3` that the deployments name, which must be this one.
        "PYTHONSAFEPATH": "1",
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
    }
    env.pop("VISIONFLOWS_PASSWORD", None)
    env = {name: value for name, value in env.items() if not name.startswith(_DATABASE)}
    loopback_past_proxies(env, *([] if address.is_any(settings.host) else [settings.host]))
    if password:
        env["PREFECT_SERVER_API_AUTH_STRING"] = f"{USER}:{password}"
        env["PREFECT_API_AUTH_STRING"] = f"{USER}:{password}"
    return env


def of_server(env: dict[str, str], settings: UpSettings) -> dict[str, str]:
    """The environment of the server, which alone is told of its database and the password there."""
    told = {name: value for name, value in os.environ.items() if name.startswith(_DATABASE)}
    if settings.database:
        told["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = settings.database
    return env | told


def password(settings: UpSettings) -> str:
    """From the file, else VISIONFLOWS_PASSWORD: a parameter could be read by every user.

    Raises SettingsError where the file cannot be read, or where other machines would need one.
    """
    found = os.environ.get("VISIONFLOWS_PASSWORD", "")
    if settings.password_file:
        try:
            found = settings.password_file.read_text("utf-8").strip()
        except OSError as error:
            raise SettingsError(
                f"--password-file {settings.password_file}: cannot be read ({error.strerror})"
            ) from error
    if not found and not address.is_loopback(settings.host):
        raise SettingsError(
            f"--host {settings.host}: whoever reaches this machine could run jobs on it; "
            "set VISIONFLOWS_PASSWORD, or name a --password-file"
        )
    return found
