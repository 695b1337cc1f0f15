"""The Prefect server that is configured, if any."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, Literal

import httpx

from visionflows.errors import ServerError
from visionflows.orchestration.preflight import bypass_proxies
from visionflows.orchestration.url_redaction import redact

TIMEOUT = 10.0  # seconds for the server to answer
# Files that Prefect reads settings from, and a word in those with any: prefect.settings.sources.
_SETTINGS = {"prefect.toml": "", "pyproject.toml": "tool.prefect", ".env": "PREFECT_"}
_VARIABLES = ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")


def is_configured() -> bool:
    """Whether the environment or Prefect's active profile names a server.

    Importing Prefect takes seconds, so its settings are read only if something may name one.
    """
    return bool(url()) if "prefect.settings" in sys.modules or _has_settings() else False


def check() -> None:
    """Check that the configured server answers. Raises ServerError within seconds if not."""
    bypass_proxies()
    read_version()


def url() -> str:
    """The API of the configured server; empty if there is none."""
    from prefect.settings import get_current_settings

    return (get_current_settings().api.url or "").rstrip("/")


def read_version() -> str:
    """The version of the configured server; empty if none is configured.

    Raises ServerError if it does not answer, asks for a password, or is no Prefect server.
    """
    if not url():
        return ""
    try:
        answer = _request("GET", "/admin/version")
        if answer.status_code == 404:  # Prefect Cloud has no such page
            answer = _request("GET", "/health")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise unreachable(str(error) or type(error).__name__) from error
    if answer.status_code in (401, 403):
        raise ServerError(f"{_setting()}: {_describe_refusal()}")
    if answer.status_code != 200 or "json" not in answer.headers.get("content-type", ""):
        raise ServerError(
            f"{_setting()}: this is no Prefect API (HTTP {answer.status_code}); correct "
            "PREFECT_API_URL: it ends in /api"
        )
    return str(answer.json())


def send_event(event: dict[str, Any]) -> None:
    """Send an event over HTTP and wait for the answer; Prefect's own way needs a websocket.

    Raises ServerError if the server does not accept it.
    """
    from prefect.events import Event

    body = [Event.model_validate(event).model_dump(mode="json")]
    try:
        answer = _request("POST", "/events", json=body)
    except (httpx.HTTPError, OSError) as error:
        raise unreachable(str(error) or type(error).__name__) from error
    if not answer.is_success:
        status = answer.status_code
        raise ServerError(f"{_setting()}: takes no events (HTTP {status}); upgrade that server")


def unreachable(reason: str) -> ServerError:
    """The error for a configured server that does not answer."""
    return ServerError(
        f"{_setting()} cannot be reached: no server answers there ({reason}); start it "
        "(`visionflows up`), or correct or unset PREFECT_API_URL"
    )


def _has_settings() -> bool:
    if any(os.environ.get(name) for name in _VARIABLES):
        return True
    home = os.environ.get("PREFECT_HOME") or os.path.expanduser("~/.prefect")
    for name, word in {**_SETTINGS, f"{home}/profiles.toml": ""}.items():
        with contextlib.suppress(OSError):
            if word in Path(name).read_text(encoding="utf-8", errors="replace"):
                return True
    return False


def _describe_refusal() -> str:
    from prefect.settings import get_current_settings

    if url().startswith(get_current_settings().cloud.api_url):
        return "the key is missing or refused; set PREFECT_API_KEY to a valid one of Prefect Cloud"
    return "the password is missing or wrong; set PREFECT_API_AUTH_STRING=admin:<the password>"


def _setting() -> str:
    return f"PREFECT_API_URL={redact(url())}"


def _request(
    method: Literal["GET", "POST"],
    path: Literal["/admin/version", "/health", "/events"],
    **body: Any,
) -> httpx.Response:
    """The answer to one request, without retries."""
    from prefect.client.orchestration import get_client
    from prefect.settings import temporary_settings

    with (
        temporary_settings({"client.max_retries": 0}),
        get_client({"timeout": TIMEOUT}, sync_client=True) as client,
    ):
        try:
            return client.request(method, path, **body)
        except httpx.HTTPStatusError as error:
            return error.response
