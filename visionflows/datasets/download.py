"""Download one URL into one file, resuming with Range and If-Range where a connection broke."""

import contextlib
import json
import logging
import os
import random
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

import httpx

from visionflows.errors import FetchError, SettingsError, StorageError
from visionflows.progress_bar import Report, progress_bar
from visionflows.storage.local import LocalStorage

ATTEMPTS = 5  # in a row without one new byte
FIRST_DELAY = 1.0  # seconds; doubles with each such attempt; half is random, to spread clients
MAX_DELAY = 60.0  # seconds
MAX_RETRY_AFTER = 600.0  # seconds; a server may ask for a longer pause
READ_TIMEOUT = 30.0  # seconds
DISK_FACTOR = 2  # the archive, and its content beside it
_REFUSALS = {401: "not allowed", 403: "not allowed", 404: "not found", 410: "gone for good"}
_IDENTITY = {"Accept-Encoding": "identity"}  # sizes and ranges are those of the file itself

logger = logging.getLogger("visionflows.download")


class RemoteVersion(NamedTuple):
    """The ETag (or date) and the size in bytes of a file at its source; "" and 0 if unknown."""

    tag: str = ""
    size: int = 0

    @property
    def can_resume(self) -> bool:
        """Whether the tag is fit for If-Range: RFC 9110 forbids weak ones there."""
        return bool(self.tag) and not self.tag.startswith("W/")


def download(url: str, target: str | Path) -> RemoteVersion:
    """The version of the file that `url` names, once `target` has it. One caller at a time.

    The disk must have DISK_FACTOR times the file's size free, so a file of unknown size takes half
    of what is free. A partial file is kept as `<target>.part` if a later run can resume it.
    Raises SettingsError for an invalid URL, FetchError for a refusal (4xx) or a network that stays
    broken, StorageError for a full disk.
    """
    check_url(url)
    attempts = _Download(url, Path(target))
    attempts.storage.check_writable()
    client = httpx.Client(follow_redirects=True, timeout=READ_TIMEOUT)
    try:
        with client, progress_bar(attempts.name) as report:
            attempts.run(client, report)
        return attempts.finish()
    finally:
        attempts.remove_useless()


def remote_version(url: str) -> RemoteVersion:
    """The version that a server has now, from headers only. Raises FetchError without an answer.

    Where HEAD is refused, as by URLs signed for GET, the headers of a GET are read.
    """
    try:
        with httpx.Client(follow_redirects=True, timeout=15.0) as client:
            for method in ("HEAD", "GET"):
                with client.stream(method, url, headers=_IDENTITY) as response:
                    if response.status_code == 200:
                        return _parse_version(response.headers)
    except httpx.HTTPError as error:
        raise FetchError(_describe(error)) from error
    raise FetchError(f"HTTP {response.status_code}")


def check_url(url: str) -> None:
    """Raise SettingsError unless `url` can be downloaded."""
    with contextlib.suppress(httpx.InvalidURL):
        if (parsed := httpx.URL(url)).host and parsed.scheme in ("http", "https"):
            return
    raise SettingsError(f"{public_url(url)}: not an http:// or https:// URL; check the address")


def public_url(url: str) -> str:
    """The URL without what may be secret: user, password, query (signatures) and fragment."""
    address = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"//[^/]*@", "//", address, count=1) + ("?…" if "?" in url else "")


class _Interrupted(Exception):
    """An attempt that ended early, and the pause in seconds that the server asks for."""

    def __init__(self, reason: str, retry_after: float = 0.0):
        super().__init__(reason)
        self.retry_after = retry_after


class _Download:
    """The attempts to download one URL into `<target>.part`.

    `version` is that of the file to which the bytes so far belong.
    """

    def __init__(self, url: str, target: Path):
        self.url, self.name = url, public_url(url)  # the name is what logs and errors show
        self.target, self.path = target, target.with_name(f"{target.name}.part")
        self.storage, self.note = LocalStorage(target.parent), f"{target.name}.part.json"
        self.version = RemoteVersion()
        if self.storage.exists(self.note):
            self.version = RemoteVersion(**json.loads(self.storage.read(self.note)))

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.version.can_resume and self.path.exists() else 0

    def is_complete(self) -> bool:
        return self.version.can_resume and 0 < self.size == self.version.size

    def start(self, headers: Mapping[str, str]) -> None:
        """Drop the bytes so far; the file described by `headers` comes from its first byte."""
        self.reset()
        self.version = _parse_version(headers)
        if self.version.can_resume:  # else a later run cannot know what the bytes belong to
            self.storage.write(self.note, json.dumps(self.version._asdict()).encode())

    def continues(self, headers: Mapping[str, str]) -> bool:
        """Whether a 206 response has the next bytes of the same file."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("content-range", ""))
        current = _parse_version(headers)
        return (
            match is not None
            and int(match[1]) == self.size
            and (not self.version.size or match[2] in ("*", str(self.version.size)))
            and (not current.can_resume or current.tag == self.version.tag)
        )

    def reset(self) -> None:
        self.version = RemoteVersion()
        self.storage.remove(self.note)
        self.storage.remove(self.path.name)

    def remove_useless(self) -> None:
        """Remove what came of a file that cannot be resumed."""
        if not self.version.can_resume:
            self.storage.remove(self.path.name)

    def finish(self) -> RemoteVersion:
        with _disk_errors(self.target):
            with self.path.open("ab") as file:
                os.fsync(file.fileno())
            self.path.replace(self.target)
        self.storage.remove(self.note)
        return self.version

    def run(self, client: httpx.Client, report: Report) -> None:
        """Try until the part is complete. Raises FetchError when nothing new arrives any more."""
        failures, furthest = 0, self.size
        while not self.is_complete():
            try:
                self._attempt(client, report)
                return
            except _Interrupted as error:
                size = self.size
                failures = 1 if size > furthest else failures + 1
                furthest = max(furthest, size)
                if failures >= ATTEMPTS:
                    raise FetchError(
                        f"{self.name}: {error}, {failures} times in a row; check the network and "
                        f"run it again: it resumes at {size:,} bytes"
                    ) from error
                delay = min(FIRST_DELAY * 2.0 ** (failures - 1), MAX_DELAY) * random.uniform(0.5, 1)
                delay = max(delay, min(error.retry_after, MAX_RETRY_AFTER))
                logger.info("%s: %s; resuming at %d bytes in %.1f s", self.name, error, size, delay)
                time.sleep(delay)

    def _attempt(self, client: httpx.Client, report: Report) -> None:
        headers = _IDENTITY
        if size := self.size:
            headers = {**headers, "Range": f"bytes={size}-", "If-Range": self.version.tag}
        try:
            with client.stream("GET", self.url, headers=headers) as response:
                self._check(response)
                self._save(response, report)
        except (httpx.TooManyRedirects, httpx.UnsupportedProtocol) as error:
            raise FetchError(f"{self.name}: {error}; check the address") from error
        except httpx.TransportError as error:
            raise _Interrupted(f"the connection failed ({_describe(error)})") from error

    def _check(self, response: httpx.Response) -> None:
        """Prepare the part for the response's bytes; raise if there will be none."""
        status = response.status_code
        if status == 200:
            self.start(response.headers)
        elif status == 416 or (status == 206 and not self.continues(response.headers)):
            self.reset()
            raise _Interrupted("the file on the server has changed")
        elif status >= 500 or status in (408, 425, 429):  # temporary
            pause = _retry_after(response.headers.get("retry-after", ""))
            raise _Interrupted(f"the server answered HTTP {status}", pause)
        elif status != 206:
            reason = _REFUSALS.get(status, "cannot be fetched")
            raise FetchError(f"{self.name}: {reason} (HTTP {status}); check the address")

    def _save(self, response: httpx.Response, report: Report) -> None:
        done, total = self.size, self.version.size or None
        needed = (total or 0) * DISK_FACTOR - done
        free = self.storage.free_bytes()
        if free < needed:
            raise StorageError(
                f"{self.storage}: {free:,} bytes free, {self.name} takes {needed:,}; make room"
            )
        allowed = total or done + free // DISK_FACTOR
        with _disk_errors(self.path), self.path.open("ab") as file:
            report(done, total)
            for data in response.iter_raw():
                if done + len(data) > allowed:
                    raise StorageError(
                        f"{self.storage}: {free:,} bytes free, {self.name} takes more than half of "
                        "that, and as much to unpack; make room"
                    )
                file.write(data)
                done += len(data)
                report(done, total)
        if total and done != total:
            raise _Interrupted(f"{done:,} of {total:,} bytes came")


def _parse_version(headers: Mapping[str, str]) -> RemoteVersion:
    """The version in a response: a strong ETag, or else the date, or else a weak ETag."""
    tag, length = headers.get("etag", ""), headers.get("content-length", "")
    if not tag or tag.startswith("W/"):
        tag = headers.get("last-modified") or tag
    return RemoteVersion(tag, int(length) if length.isdecimal() else 0)


def _retry_after(value: str) -> float:
    """The seconds of a Retry-After header, a number or a date; 0 for neither."""
    with contextlib.suppress(TypeError, ValueError):
        if value.isdecimal():
            return float(value)
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    return 0.0


def _describe(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error.strerror}); free some space, or choose another disk"
        ) from error
