"""What must be there before anything waits for it, each fault said in one line.

    loopback_past_proxies()          # first: what is started later inherits the environment
    folders_can_be_written()         # HOME, PREFECT_HOME, TMPDIR
    server_answers()                 # PREFECT_API_URL, where it is set

Without these, Prefect waits for minutes for a server of its own that a proxy keeps from it, or
that has no home, and says something else.
"""

import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

from visionflows.errors import ServerError, StorageError
from visionflows.orchestration.url_redaction import public

if TYPE_CHECKING:
    import httpx

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PATIENCE = 10.0  # seconds for a server to answer


def loopback_past_proxies(env: MutableMapping[str, str] = os.environ, *hosts: str) -> None:
    """Let no proxy stand between this machine and itself, nor before these other hosts.

    HTTP_PROXY and the like are otherwise obeyed; both ways to write NO_PROXY say the same then.
    """
    said = ",".join(env.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    words = [word.strip() for word in said.split(",") if word.strip()]
    env["NO_PROXY"] = env["no_proxy"] = ",".join(dict.fromkeys([*words, *LOOPBACK, *hosts]))


def folders_can_be_written(prefect_home: Path | None = None) -> None:
    """Nothing, where Prefect (in PREFECT_HOME, or in what is given) and temporary files have one.

    Raises PlaceError where HOME is unknown, or PREFECT_HOME or TMPDIR cannot be written.
    """
    try:
        home = Path.home()
    except RuntimeError as error:  # a user id without an account, as containers have them
        raise StorageError(
            f"HOME is not set, and user {os.getuid()} has no account; set HOME to a folder that "
            "may be written"
        ) from error
    prefect = os.environ.get("PREFECT_HOME", "")
    if prefect_home:
        _write(prefect_home.expanduser(), "--state", "--state")
    elif prefect:
        _write(Path(prefect).expanduser(), "PREFECT_HOME", "PREFECT_HOME")
    else:
        _write(home / ".prefect", "Prefect's folder", "HOME or PREFECT_HOME")
    temporary = os.environ.get("TMPDIR", "")
    if temporary and not Path(temporary).is_dir():
        raise StorageError(f"TMPDIR={temporary}: no such folder; make it, or unset TMPDIR")
    if temporary:
        _write(Path(temporary), "TMPDIR", "TMPDIR")


def _write(folder: Path, name: str, setting: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))  # a full disk takes an empty file
    except OSError as error:
        raise StorageError(
            f"{name} {folder}: cannot be written ({error.strerror}); set {setting} to a folder "
            "that may be"
        ) from error


def named_server() -> str:
    """The API of the Prefect server that PREFECT_API_URL or a profile names; empty if none is."""
    from prefect.settings import get_current_settings

    return get_current_settings().api.url or ""


def server_answers() -> str:
    """The version of the Prefect server that is named, as it says it; empty where none is.

    Raises ServerError where it does not answer, wants a password, or is no Prefect server.
    """
    import httpx

    url = named_server()
    if not url:
        return ""
    said = _said(url)
    try:
        with _client(url) as client:
            answer = client.get("/admin/version")
            if answer.status_code == 404:  # Prefect Cloud has no such page
                answer = client.get("/health")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise unreachable(str(error) or type(error).__name__) from error
    if answer.status_code in (401, 403):
        raise ServerError(
            f"{said}: the server wants a password, or another one; set "
            "PREFECT_API_AUTH_STRING=admin:<the password>"
        )
    if answer.status_code != 200 or "json" not in answer.headers.get("content-type", ""):
        raise ServerError(
            f"{said}: what answers there is no Prefect API ({answer.status_code}); correct "
            "PREFECT_API_URL: it ends in /api"
        )
    return str(answer.json())


def unreachable(why: str) -> ServerError:
    """That the named server does not answer, and what to do."""
    return ServerError(
        f"{_said(named_server())} cannot be reached: no server answers there ({why}); start it "
        "(`visionflows up`), or correct or unset PREFECT_API_URL"
    )


def _said(url: str) -> str:
    return f"PREFECT_API_URL={public(url)}"  # a password in it is nobody's


def _client(url: str) -> "httpx.Client":
    """A client with the credentials and certificates of Prefect's own settings."""
    import ssl

    import httpx
    from prefect.settings import get_current_settings

    api = get_current_settings().api
    headers = dict(get_current_settings().client.custom_headers)
    auth = None
    if api.auth_string:
        user, _, password = api.auth_string.get_secret_value().partition(":")
        auth = httpx.BasicAuth(user, password)
    elif api.key:
        headers["Authorization"] = f"Bearer {api.key.get_secret_value()}"
    verify: ssl.SSLContext | bool = not api.tls_insecure_skip_verify
    if verify and api.ssl_cert_file:
        verify = ssl.create_default_context(cafile=api.ssl_cert_file)
    return httpx.Client(base_url=url, auth=auth, headers=headers, verify=verify, timeout=PATIENCE)
