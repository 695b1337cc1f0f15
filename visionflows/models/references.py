"""What can name a model, a version or an alias, and which version the file of an alias holds.

from visionflows.models.references import is_name, version_in
version_in(b"20261123T081500123Z-1a2b3c4d\\n")
"""

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_name(text: str) -> bool:
    """Whether a text can name a model, a version or an alias: no path, nothing hidden."""
    return _NAME.fullmatch(text) is not None


def version_in(alias: bytes | None) -> str:
    """The version that an alias' file means; empty where it holds none."""
    version = (alias or b"").decode("ascii", "replace").strip()
    return version if is_name(version) else ""
