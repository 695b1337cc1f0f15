"""The Prefect server that runs are told to, if one is named.

if server.is_named():              # by PREFECT_API_URL, or by a profile
    server.check()                 # … and answers
"""

import contextlib
import os
import sys
from pathlib import Path

from visionflows.errors import RunError
from visionflows.orchestration.addresses import public

# What in these files may name a server, as Prefect reads them: prefect.settings.sources.
_SETTINGS = {"prefect.toml": "", "pyproject.toml": "tool.prefect", ".env": "PREFECT_"}
_VARIABLES = ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")


def is_named() -> bool:
    """Whether a server is named, by the environment or by Prefect's active profile.

    Importing Prefect takes seconds; so it is asked only where something may have named one.
    """
    return bool(_url()) if "prefect.settings" in sys.modules or _may_be_named() else False


def check() -> None:
    """Nothing, if the named server answers. Raises RunError, within seconds, where it does not."""
    import httpx
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY

    if PREFECT_API_KEY.value():
        return  # Prefect's cloud, which has no such page
    past_any_proxy()
    secret = PREFECT_API_AUTH_STRING.value()
    user, _, password = secret.get_secret_value().partition(":") if secret else ("", "", "")
    auth = (user, password) if secret else None
    try:
        answer = httpx.get(f"{_url()}/version", timeout=10, auth=auth)
    except httpx.HTTPError as error:
        raise unreachable(type(error).__name__) from error
    if answer.status_code in (401, 403):
        raise RunError(
            f"{public(_url())}: the Prefect server wants a password; set PREFECT_API_AUTH_STRING"
        )
    if not answer.is_success:
        raise unreachable(f"HTTP {answer.status_code}")


def past_any_proxy() -> None:
    """A server on this machine is never asked for through a proxy, in this process and below."""
    beside = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [beside, "127.0.0.1", "localhost", "::1"]))


def unreachable(why: str) -> RunError:
    """That the named server does not answer, and what to do."""
    return RunError(
        f"{public(_url()) or 'PREFECT_API_URL'}: the Prefect server there does not answer ({why}); "
        "start it, or unset PREFECT_API_URL to run without one"
    )


def _url() -> str:
    from prefect.settings import PREFECT_API_URL

    return (PREFECT_API_URL.value() or "").rstrip("/")


def _may_be_named() -> bool:
    if any(os.environ.get(name) for name in _VARIABLES):
        return True
    if any(word in _text(Path(name)) for name, word in _SETTINGS.items() if Path(name).is_file()):
        return True
    home = os.environ.get("PREFECT_HOME") or os.path.expanduser("~/.prefect")
    return os.path.exists(os.path.join(home, "profiles.toml"))


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")
    return ""
