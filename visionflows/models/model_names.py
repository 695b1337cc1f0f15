"""Names of models, versions and aliases, and the version in an alias file."""

import re
from typing import Annotated

from pydantic import Field

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
Name = Annotated[str, Field(pattern=f"^{_NAME}$")]


def is_name(text: str) -> bool:
    """Whether a text can name a model, a version or an alias: no path, nothing hidden."""
    return re.fullmatch(_NAME, text) is not None


def parse_alias(content: bytes | None) -> str:
    """The version in an alias file; empty if it holds none."""
    version = (content or b"").decode("ascii", "replace").strip()
    return version if is_name(version) else ""
