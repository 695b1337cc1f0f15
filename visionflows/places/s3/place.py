"""Places in a bucket: `s3://bucket/prefix`, through the same calls as a folder.

    from visionflows.places import place
    place("s3://inbox/2020").read("1.jpg")

    from visionflows.places.s3.place import probe
    for what, ok, advice in probe("s3://results/night"): print(what, ok, advice)

A prefix ends at its slash, so that `a/` never means `a_test/`. A name is what a key has after the
prefix, whatever is in it: it never becomes a path on this machine. Settings and credentials:
visionflows/places/s3/client.py. boto3 is imported with the first request.
"""

import collections
import contextlib
import io
import itertools
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from visionflows.errors import PlaceError, SettingsError, VisionflowsError
from visionflows.places.base import MISSING, Entry, ReadFailed
from visionflows.places.s3 import listing
from visionflows.places.s3.client import ChangedError, DeniedError, call, connections, pool
from visionflows.places.s3.lock import OLD, clear_uploads, hold
from visionflows.places.s3.objects import Download, Upload, get, put

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_UNKNOWN = ("", "listed", MISSING)  # versions that say nothing of the content
_MOST_CHANGES = 20  # how often an update meets another one before something is wrong


class S3Place:
    """A prefix in a bucket."""

    def __init__(self, bucket: str, prefix: str):
        self.bucket, self.prefix = bucket, prefix

    @classmethod
    def named(cls, text: str) -> "S3Place":
        """The place that `s3://bucket/prefix` names. Raises SettingsError."""
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        if not _BUCKET.fullmatch(bucket):  # not repeated: it might be a key and its secret
            raise SettingsError(
                "s3://…: no bucket's name follows; write s3://bucket/prefix, and give "
                "credentials as boto3 takes them (AWS_PROFILE, AWS_ACCESS_KEY_ID …)"
            )
        return cls(bucket, f"{prefix}/" if prefix and not prefix.endswith("/") else prefix)

    def __str__(self) -> str:
        prefix = self.prefix if self.prefix.endswith("//") else self.prefix.removesuffix("/")
        return f"s3://{self.bucket}/{prefix}" if prefix else f"s3://{self.bucket}"

    def sub(self, name: str) -> "S3Place":
        """The place of a folder in this one."""
        return S3Place(self.bucket, f"{self.prefix}{name}/")

    def _key(self, name: str) -> str:
        return self.prefix + name

    def walk(self, keep: Callable[[str], bool] | None = None) -> Iterator[Entry]:
        """Every file below, as LocalPlace.walk has them; the version is the ETag."""
        return listing.walk(self.bucket, self.prefix, keep or (lambda name: True))

    def read(self, name: str) -> bytes:
        """The whole content of a file. Raises FileNotFoundError, ReadFailed, PlaceError."""
        return get(self.bucket, self._key(name))[0]

    def head(self, name: str, size: int) -> bytes:
        """The first `size` bytes of a file, by one request. Raises as read does."""
        return get(self.bucket, self._key(name), span=f"bytes=0-{size - 1}")[0]

    def read_many(self, entries: Iterable[Entry]) -> Iterator[bytes | OSError]:
        """The contents of files, in order, as LocalPlace.read_many; many are under way at once."""
        left, coming = iter(entries), collections.deque()

        def start(count: int) -> None:
            for entry in itertools.islice(left, count):
                coming.append(pool().submit(self._content, entry))

        start(connections())
        return _arriving(coming, start)

    def _content(self, entry: Entry) -> bytes | OSError:
        version = "" if entry.version in _UNKNOWN else entry.version
        try:
            return get(self.bucket, self._key(entry.name), version)[0]
        except OSError as error:
            return error

    def open_read(self, name: str) -> BinaryIO:
        """The file as a stream of bytes, a few chunks ahead."""
        return io.BufferedReader(Download(self.bucket, self._key(name)), 1 << 20)

    def write(self, name: str, data: bytes) -> None:
        """Put `data` under `name`, whole or not at all."""
        with self.open_write(name) as file:
            file.write(data)

    @contextlib.contextmanager
    def open_write(self, name: str) -> Iterator[BinaryIO]:
        """A file to fill; it appears under `name` when the block ends well, else not at all."""
        upload = Upload(self.bucket, self._key(name))
        try:
            yield upload
            upload.finish()
        except BaseException:
            upload.abort()
            raise

    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """Write what `change` makes of a file's content, as LocalPlace.update.

        Conditional, so that no update is lost, where the server has conditional writes; where it
        has not, of two at the same moment the later one stands.
        """
        for _ in range(_MOST_CHANGES):
            try:
                data, tag = get(self.bucket, self._key(name))
                condition = {"IfMatch": f'"{tag}"'}
            except FileNotFoundError:
                data, condition = None, {"IfNoneMatch": "*"}
            made = change(data)
            if made is None:
                return
            with contextlib.suppress(ChangedError, FileNotFoundError):  # another was faster
                put(self.bucket, self._key(name), made, **condition)
                return
        raise PlaceError(f"{self}/{name}: changes all the time; try again later")

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder of that name."""
        below = f"{self._key(name)}/" if name else self.prefix
        for prefix, most in ((self._key(name), 1), (below, 1)):
            found = call("list_objects_v2", self.bucket, Prefix=prefix, MaxKeys=most)
            for item in found.get("Contents", ()):
                if item["Key"] == self._key(name) or item["Key"].startswith(below):
                    return True
        return False

    def names(self, name: str = "") -> list[str]:
        """The names directly inside a folder, sorted; none where there is no such folder."""
        below = f"{self._key(name)}/" if name else self.prefix
        found = set()
        for page in listing.pages(self.bucket, below, Delimiter="/"):
            found |= {item["Key"] for item in page.get("Contents", ())}
            found |= {item["Prefix"] for item in page.get("CommonPrefixes", ())}
        names = {key[len(below) :].removesuffix("/") for key in found}
        return sorted(name for name in names if name and not name.startswith("."))

    def remove(self, name: str) -> None:
        """Take a file or a whole folder away; nothing happens where there is none."""
        key = self._key(name)
        below = f"{key}/" if name else key
        first = call("list_objects_v2", self.bucket, Prefix=key, MaxKeys=1).get("Contents", ())
        itself = [key] if any(item["Key"] == key for item in first) else []
        _delete(self.bucket, itself + [item["Key"] for item in listing.keys(self.bucket, below)])

    def rename(self, name: str, to: str) -> None:
        """Give a file or a folder another name; it has both until all of it is copied."""
        self.remove(to)
        source, moved = self._key(name), []
        for item in listing.keys(self.bucket, source):
            if item["Key"] == source or item["Key"].startswith(f"{source}/"):
                target = self._key(to) + item["Key"][len(source) :]
                origin = {"Bucket": self.bucket, "Key": item["Key"]}
                call("copy_object", self.bucket, Key=target, CopySource=origin)
                moved.append(item["Key"])
        _delete(self.bucket, moved)

    def check_readable(self, names: list[str]) -> None:
        """Nothing, if one of the files can be read. Raises PlaceError if none may be."""
        for name in names:
            try:
                call("head_object", self.bucket, Key=self._key(name))
                return
            except DeniedError as error:
                denied = error
            except FileNotFoundError:
                return  # gone since it was listed: no word about rights
        if names:
            raise denied

    def check_writable(self) -> None:
        """Write a probe and take it away. Raises PlaceError if that fails.

        Uploads that have been unfinished here for a day are aborted, as nobody completes them.
        """
        probe = self._key(f".probe-{secrets.token_hex(8)}")
        put(self.bucket, probe, b"visionflows writes here")
        call("delete_object", self.bucket, Key=probe)
        clear_uploads(self.bucket, self.prefix, OLD)

    def free_bytes(self) -> None:
        """Nothing: a bucket has no end."""

    @contextlib.contextmanager
    def lock(self, name: str, wait: float = 0.0) -> Iterator[None]:
        """Hold `name` alone for the block; `wait` is how many seconds to stand in line.

        A dead process holds nothing: visionflows/places/s3/lock.py. Uploads that such a one left
        unfinished here are aborted. Raises LockedError, and PlaceError.
        """
        with hold(self.bucket, f"{self._key(name)}/", str(self), wait):
            clear_uploads(self.bucket, self.prefix)
            yield


def _arriving(coming: collections.deque, start: Callable[[int], None]) -> Iterator:
    try:
        while coming:
            content = coming.popleft().result()
            start(1)
            yield content
    finally:
        for future in coming:
            future.cancel()


def _delete(bucket: str, keys: list[str]) -> None:
    """Delete objects; those that are not there are no error. The last key goes last."""
    for at in range(0, len(keys) - 1, 1000):
        some = [{"Key": key} for key in keys[at : at + 1000]]
        answer = call("delete_objects", bucket, Delete={"Objects": some, "Quiet": True})
        if wrong := answer.get("Errors"):
            raise DeniedError(
                f"s3://{bucket}/{wrong[0]['Key']}: cannot be deleted ({wrong[0].get('Code')}); "
                "allow s3:DeleteObject on it"
            )
    for key in keys[-1:]:
        call("delete_object", bucket, Key=key)


def probe(where: str) -> list[tuple[str, bool, str]]:
    """What can be done in a place, by trying: (what, whether it can, what to do if not).

    Lists, writes a small object, reads it and deletes it. The first thing that concerns all of
    them (no credentials, no such bucket, endpoint down) ends it.
    """
    here = S3Place.named(where)
    key = here._key(f".probe-{secrets.token_hex(8)}")
    data = b"visionflows was here"
    steps = {
        "list": lambda: call("list_objects_v2", here.bucket, Prefix=here.prefix, MaxKeys=1),
        "write": lambda: put(here.bucket, key, data),
        "read": lambda: _read_back(here.bucket, key, data),
        "delete": lambda: call("delete_object", here.bucket, Key=key),
    }
    found = []
    for what, step in steps.items():
        try:
            step()
        except DeniedError as error:
            found.append((what, False, str(error)))
        except (VisionflowsError, OSError) as error:
            return [*found, (what, False, getattr(error, "strerror", None) or str(error))]
        else:
            found.append((what, True, ""))
    return found


def _read_back(bucket: str, key: str, data: bytes) -> None:
    try:
        if get(bucket, key)[0] != data:
            raise PlaceError(f"s3://{bucket}: gives other bytes than it was given; check it")
    except ReadFailed as error:
        raise DeniedError(
            f"s3://{bucket}: these credentials may not read there; allow s3:GetObject on it"
        ) from error
    except FileNotFoundError:
        raise DeniedError(f"s3://{bucket}: nothing to read, as nothing could be written") from None
