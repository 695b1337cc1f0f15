"""Redact user, password and signature in URLs.

The Prefect server stores the parameters of a flow run for all to see, so a flow is called with
redacted URLs and reveals them in the same process.
"""

import re
from typing import TypeVar

from visionflows.datasets.download import public_url
from visionflows.escaping import utf8

T = TypeVar("T")

# s3:// and file:// URIs hold no secret, and a key may have any character.
_URL = re.compile(r"\b(?!s3:|file:)[a-z][a-z0-9+.-]*://[^\s'\"<>]+(?<![.,:;!)\]])", re.IGNORECASE)
_hidden: dict[str, str] = {}


def redact(text: str) -> str:
    """The text, with every URL in it redacted."""
    return _URL.sub(lambda url: public_url(url[0]), text)


def hide(value: T) -> T:
    """The redacted form of a text with secrets, or that is no UTF-8; other values unchanged."""
    if not isinstance(value, str) or (redacted := utf8(redact(value)).decode()) == value:
        return value
    _hidden[redacted] = value
    return redacted  # type: ignore[return-value]  # str for str


def reveal(value: T) -> T:
    """The value that `hide` was called with; any other value unchanged."""
    return _hidden.get(value, value) if isinstance(value, str) else value  # type: ignore[return-value]
