"""Which version of an archive its source has: what tells an archive that changed from one it was.

from visionflows.datasets.remote_version import ask
ask("https://example.org/pets.tgz")              # Mark('"5f-1a2b"', 811706944)
"""

from collections.abc import Mapping
from typing import NamedTuple

import httpx

from visionflows.errors import FetchError

LONGEST_ANSWER = 15.0  # seconds, for a server to say what it has


class Mark(NamedTuple):
    """A tag that changes with the archive, and its size in bytes; empty and 0 where unsaid."""

    tag: str = ""
    size: int = 0

    def is_other(self, than: "Mark") -> bool:
        """Whether the two are of different archives, as far as both say the same things."""
        both = zip(self, than, strict=True)
        return any(ours and theirs and ours != theirs for ours, theirs in both)

    def tells(self, other: "Mark") -> bool:
        """Whether both say anything that can be compared."""
        return any(ours and theirs for ours, theirs in zip(self, other, strict=True))

    def over(self, before: "Mark") -> "Mark":
        """This mark, with what only the one before it says."""
        return Mark(self.tag or before.tag, self.size or before.size)


def mark_of(headers: Mapping[str, str]) -> Mark:
    """What the headers of a server's answer say of the file that it has."""
    length = headers.get("content-length", "")
    tag = strong_version(headers) or headers.get("etag") or ""
    return Mark(tag, int(length) if length.isdecimal() else 0)


def strong_version(headers: Mapping[str, str]) -> str | None:
    """What the server calls this version, if it is fit for If-Range: RFC 9110 wants no weak tag."""
    tag = headers.get("etag", "W/")
    return headers.get("last-modified") if tag.startswith("W/") else tag


def ask(url: str) -> Mark:
    """What the server says of the file now, by its headers alone. Raises FetchError for no answer.

    A server that refuses HEAD, or that signed an address for GET alone, is asked by a GET that is
    hung up before the file comes.
    """
    code = 0
    try:
        with httpx.Client(follow_redirects=True, timeout=LONGEST_ANSWER) as client:
            for method in ("HEAD", "GET"):
                # No content coding, as for the download: sizes are then those of the file itself.
                coding = {"Accept-Encoding": "identity"}
                with client.stream(method, url, headers=coding) as response:
                    if response.status_code == 200:
                        return mark_of(response.headers)
                    code = response.status_code
    except httpx.HTTPError as error:
        raise FetchError(" ".join(f"{type(error).__name__} {error}".split())) from error
    raise FetchError(f"HTTP {code}")
