"""URLs as anybody may see them: without user, password and what signs them.

    public("https://me:secret@host/pets.tgz?X-Amz-Signature=…: not found")
                                                    # https://host/pets.tgz?…: not found
    whole(hidden("https://me:secret@host/pets.tgz"))                   # as it was given

A flow run's parameters are kept by the server for all to see. So a flow that is called with such a
URL is told of the public one, and asks here for the whole: that never leaves this process. What a
person has typed into the server's own form or deployment is there as it was typed.
"""

import re
from typing import TypeVar

from visionflows.datasets.download import public_url

T = TypeVar("T")

# A place's name (s3://, file://) holds no secret, and a key may have any character.
_URL = re.compile(r"\b(?!s3:|file:)[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_whole: dict[str, str] = {}


def public(text: str) -> str:
    """The text, of every URL in it what is no secret."""
    return _URL.sub(_cut, text)


def hidden(value: T) -> T:
    """The public form of what is a text with secrets in it; anything else as it is."""
    if not isinstance(value, str) or (told := public(value)) == value:
        return value
    _whole[told] = value
    return told  # type: ignore[return-value]  # a text for a text


def whole(value: T) -> T:
    """What `hidden` was given for this; anything else as it is."""
    return _whole.get(value, value) if isinstance(value, str) else value  # type: ignore[return-value]


def _cut(found: re.Match[str]) -> str:
    url = found[0].rstrip(".,:;!)]")
    return public_url(url) + found[0][len(url) :]
