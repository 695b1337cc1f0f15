"""The Prefect server that runs are told to, if one is named.

if server.is_named():              # by PREFECT_API_URL, or by a profile
    server.check()                 # … and answers
"""

import contextlib
import os
import sys
from pathlib import Path

from visionflows.orchestration import preflight

# What in these files may name a server, as Prefect reads them: prefect.settings.sources.
_SETTINGS = {"prefect.toml": "", "pyproject.toml": "tool.prefect", ".env": "PREFECT_"}
_VARIABLES = ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")


def is_named() -> bool:
    """Whether a server is named, by the environment or by Prefect's active profile.

    Importing Prefect takes seconds; so it is asked only where something may have named one.
    """
    return bool(_url()) if "prefect.settings" in sys.modules or _may_be_named() else False


def check() -> None:
    """Nothing, if the named server answers. Raises ServerError within seconds if it does not."""
    preflight.loopback_past_proxies()
    preflight.server_answers()


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
        return path.read_text(encoding="utf-8", errors="replace")
    return ""
