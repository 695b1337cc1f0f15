"""Bring what one URL names into one file, whole or not at all, however often the line breaks.

    from visionflows.datasets.download import download
    download("https://example.org/pets.tgz", "pets.tgz")

What came so far lies beside the target as `<target>.part`, with what the server said of it in
`<target>.part.json`. The next try, in this run or a later one, asks for the rest by HTTP Range
with If-Range, so that the halves of two versions are never joined: a server that has another
file by now, or does not know ranges, sends the whole, and that starts over.
"""

import contextlib
import json
import logging
import os
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from visionflows.datasets.download_progress import Progress, shown
from visionflows.datasets.remote_version import Mark, mark_of, strong_version
from visionflows.errors import FetchError, SettingsError, StorageError
from visionflows.storage.local import LocalStorage

LONGEST_RETRY_AFTER = 600.0  # seconds, for a server that asks for a longer pause
_FOR_NOW = (408, 425, 429)  # the 4xx answers that speak of the moment, not of the request
_REFUSALS = {401: "not allowed", 403: "not allowed", 404: "not found", 410: "gone for good"}

logger = logging.getLogger("visionflows.download")


@dataclass(frozen=True)
class Patience:
    """How long a download stands a network that fails; times in seconds."""

    tries: int = 5  # in a row that bring not one new byte
    first_wait: float = 1.0  # doubles with each such try
    longest_wait: float = 60.0
    silence: float = 30.0  # after which a connection counts as broken


PATIENCE = Patience()


def download(
    url: str,
    target: str | Path,
    *,
    progress: Progress | None = None,
    patience: Patience = PATIENCE,
    room: float = 1.0,
) -> Mark:
    """What the server says of the file that `url` names, which lies at `target` by now.

    One caller at a time. `room` is how many times its size the disk must have free. Without
    `progress` a bar shows it in a terminal, else a log line each 10 %. Raises SettingsError for
    what is no URL, FetchError for a refusal (4xx) at once and for a network that stays broken,
    PlaceError where the disk is full. What came so far is kept, to go on from.
    """
    check_url(url)
    part = _Part(Path(target))
    part.home.check_writable()
    telling = contextlib.nullcontext(progress) if progress else shown(public_url(url))
    with httpx.Client(follow_redirects=True, timeout=patience.silence) as client, telling as tell:
        _Transfer(client, url, part, tell, room).run(patience)
    return part.finish()


def check_url(url: str) -> None:
    """Raise SettingsError where a URL cannot be one for `download`."""
    with contextlib.suppress(httpx.InvalidURL):
        parsed = httpx.URL(url)
        if parsed.scheme in ("http", "https") and parsed.host:
            return
    raise SettingsError(f"{public_url(url)}: not an http:// or https:// URL; check the address")


def public_url(url: str) -> str:
    """The URL without what may be secret: user, password, query (signatures) and fragment."""
    address = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"//[^/]*@", "//", address, count=1) + ("?…" if "?" in url else "")


class _Interrupted(Exception):
    """A try that ended early, and the seconds that the server asks us to wait."""

    def __init__(self, reason: str, pause: float = 0.0):
        super().__init__(reason)
        self.pause = pause


class _Part:
    """The bytes of a download so far, and which version of how large a file they belong to."""

    def __init__(self, target: Path):
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self.home, self.note = LocalStorage(target.parent), f"{target.name}.part.json"
        self.version: str | None = None
        self.total: int | None = None
        self.mark = Mark()
        if self.home.exists(self.note):
            note = json.loads(self.home.read(self.note))
            self.version, self.total = note["version"], note["total"]
            self.mark = Mark(self.version or "", self.total or 0)

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.version and self.path.exists() else 0

    def is_whole(self) -> bool:
        return self.version is not None and self.size == self.total

    def headers(self) -> dict[str, str]:
        """What asks for the rest, if there is a part that the rest can be joined to."""
        if not self.size:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": str(self.version)}

    def start(self, headers: Mapping[str, str]) -> None:
        """Forget the bytes so far: the file that `headers` speak of comes from its first byte."""
        self.forget()
        self.version, self.mark = strong_version(headers), mark_of(headers)
        self.total = int(headers["content-length"]) if "content-length" in headers else None
        if self.version:  # else nobody could tell later what the bytes are a part of
            note = {"version": self.version, "total": self.total}
            self.home.write(self.note, json.dumps(note).encode())

    def continues(self, headers: Mapping[str, str]) -> bool:
        """Whether the bytes that `headers` speak of are the next ones of the same file."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("content-range", ""))
        return (
            match is not None
            and int(match[1]) == self.size
            and (self.total is None or match[2] in ("*", str(self.total)))
            and strong_version(headers) in (None, self.version)
        )

    def forget(self) -> None:
        self.version = self.total = None
        self.home.remove(self.note)
        self.home.remove(self.path.name)

    def finish(self) -> Mark:
        with _to_disk(self.target):
            with self.path.open("ab") as file:
                os.fsync(file.fileno())
            self.path.replace(self.target)
        self.home.remove(self.note)
        return self.mark


class _Transfer:
    """The tries to bring one URL into one part."""

    def __init__(
        self, client: httpx.Client, url: str, part: _Part, progress: Progress, room: float
    ):
        self.client, self.url, self.part = client, url, part
        self.progress, self.room = progress, room
        self.name = public_url(url)
        self.fruitless, self.furthest = 0, part.size

    def run(self, patience: Patience) -> None:
        """Try until the part is whole, or until nothing new comes any more."""
        import tenacity

        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Interrupted),
            after=self._count,
            stop=lambda state: self.fruitless >= patience.tries,
            wait=lambda state: self._wait(state, patience),
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            tries(self._try)
        except _Interrupted as stop:
            raise FetchError(
                f"{self.name}: {stop}, {self.fruitless} times in a row; check the network and "
                f"run it again: it goes on from {self.part.size:,} bytes"
            ) from stop

    def _count(self, state: Any) -> None:
        self.fruitless = 1 if self.part.size > self.furthest else self.fruitless + 1
        self.furthest = max(self.furthest, self.part.size)

    def _wait(self, state: Any, patience: Patience) -> float:
        # Half of the wait is drawn by lot, so that many clients do not come back all at once.
        backoff: float = min(patience.first_wait * 2 ** (self.fruitless - 1), patience.longest_wait)
        asked: float = min(state.outcome.exception().pause, LONGEST_RETRY_AFTER)
        return max(backoff * random.uniform(0.5, 1), asked)

    def _tell(self, state: Any) -> None:
        stop, so_far = state.outcome.exception(), f"{self.part.size:,} bytes"
        seconds = state.next_action.sleep
        logger.info("%s: %s; going on from %s in %.1f s", self.name, stop, so_far, seconds)

    def _try(self) -> None:
        if self.part.is_whole():
            return
        # No content coding: lengths and ranges are then those of the file itself.
        headers = {"Accept-Encoding": "identity", **self.part.headers()}
        try:
            with self.client.stream("GET", self.url, headers=headers) as response:
                self._check(response)
                self._save(response)
        except (httpx.TooManyRedirects, httpx.UnsupportedProtocol) as error:
            raise FetchError(f"{self.name}: {error}; check the address") from error
        except httpx.TransportError as error:
            reason = " ".join(f"{type(error).__name__} {error}".split())
            raise _Interrupted(f"the connection failed ({reason})") from error

    def _check(self, response: httpx.Response) -> None:
        """Make the part ready for the answer's bytes; raise where there will be none."""
        code = response.status_code
        if code == 200:
            self.part.start(response.headers)
        elif code == 416 or (code == 206 and not self.part.continues(response.headers)):
            self.part.forget()
            raise _Interrupted("the server has another file by now")
        elif code >= 500 or code in _FOR_NOW:
            pause = _retry_after(response.headers.get("retry-after", ""))
            raise _Interrupted(f"the server answered HTTP {code}", pause)
        elif code != 206:
            what = _REFUSALS.get(code, "cannot be fetched")
            raise FetchError(f"{self.name}: {what} (HTTP {code}); check the address")

    def _save(self, response: httpx.Response) -> None:
        done, total = self.part.size, self.part.total
        self._check_room(done, total)
        with _to_disk(self.part.path), self.part.path.open("ab") as file:
            self.progress(done, total)
            for data in response.iter_raw():
                file.write(data)
                done += len(data)
                self.progress(done, total)
        if total is not None and done != total:
            raise _Interrupted(f"{done:,} of {total:,} bytes came")

    def _check_room(self, done: int, total: int | None) -> None:
        needed = int((total or 0) * self.room) - done
        free = self.part.home.free_bytes()
        if free < needed:
            raise StorageError(
                f"{self.part.home}: {free:,} bytes free, {self.name} takes {needed:,}; make room"
            )


def _retry_after(text: str) -> float:
    """The seconds that a Retry-After header asks for, as a number or as a date; else 0."""
    if text.isdecimal():
        return float(text)
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0


@contextlib.contextmanager
def _to_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error.strerror}); free some space, or name another place"
        ) from error
