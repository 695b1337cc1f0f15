"""Places in a bucket: `s3://bucket/prefix`, through the same calls as a folder.

    from visionflows.storage import place
    place("s3://inbox/2020").read("1.jpg")

A prefix ends at its slash: `a/` never means `a_test/`. No name ever becomes a path on this machine.
"""

import contextlib
import datetime
import io
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, cast

from visionflows.errors import DeniedError, SettingsError, StorageError
from visionflows.storage.base import Entry, ReadFailed, SkippedFiles, Storage, read_or_error
from visionflows.storage.prefetch import prefetch, run_all
from visionflows.storage.s3 import listing
from visionflows.storage.s3.bulk_read import reader
from visionflows.storage.s3.chunks import ChunkReader
from visionflows.storage.s3.client import call, log, number
from visionflows.storage.s3.error_messages import ChangedError, FailingError, RefusedError
from visionflows.storage.s3.external_sort import in_order
from visionflows.storage.s3.lease import check, hold
from visionflows.storage.s3.objects import Upload, abort_upload, chunks, get, put, tag_of

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_MOST_CHANGES = 20  # how often an update meets another one before something is wrong


class S3Storage:
    """A prefix in a bucket. What each call does, `Place` and LocalPlace say."""

    is_local = False

    def __init__(self, bucket: str, prefix: str):
        self.bucket, self.prefix = bucket, prefix

    @classmethod
    def named(cls, text: str) -> "S3Storage":
        """The place that `s3://bucket/prefix` names. Raises SettingsError."""
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        if not _BUCKET.fullmatch(bucket):  # not repeated: it might be a key and its secret
            todo = "write s3://bucket/prefix; credentials are boto3's own (AWS_PROFILE …)"
            raise SettingsError(f"s3://…: no bucket's name follows; {todo}")
        return cls(bucket, f"{prefix}/" if prefix and not prefix.endswith("/") else prefix)

    def __str__(self) -> str:
        prefix = self.prefix if self.prefix.endswith("//") else self.prefix.removesuffix("/")
        return f"s3://{self.bucket}/{prefix}" if prefix else f"s3://{self.bucket}"

    def local_path(self, name: str = "") -> None:
        return None

    def absolute(self) -> str:
        return str(self)

    def name_inside(self, other: Storage) -> str | None:
        folder, inside = f"{self}".rstrip("/") + "/", f"{other}".rstrip("/")
        return inside.removeprefix(folder) if inside.startswith(folder) else None

    def invalid_name_reason(self, name: str) -> str | None:
        """As LocalStorage.invalid_name_reason; a key may be what a path cannot, such as `a//b`."""
        if not name or "\0" in name:
            return "is no key"
        return None if name.encode(errors="ignore").decode() == name else "is no UTF-8"

    def sub(self, name: str) -> "S3Storage":
        return S3Storage(self.bucket, self._below(name))

    def _below(self, name: str) -> str:
        return f"{self.prefix}{name}/" if name else self.prefix

    def walk(
        self,
        keep: Callable[[str], bool] | None = None,
        skipped: SkippedFiles | None = None,
    ) -> Iterator[Entry]:
        found = listing.walk(self.bucket, self.prefix, keep, skipped or SkippedFiles())
        return in_order(found)

    def entry(self, name: str) -> Entry:
        """As LocalPlace.entry, by one request."""
        head = call("head_object", self.bucket, Key=self.prefix + name)
        version = tag_of(head) or f"@{head['LastModified'].isoformat()}"
        return Entry(name, head["ContentLength"], version)

    def read(self, name: str) -> bytes:
        return get(self.bucket, self.prefix + name)[0]

    def head(self, name: str, size: int) -> bytes:
        """As LocalPlace.head, by one request."""
        try:
            return get(self.bucket, self.prefix + name, span=f"bytes=0-{size - 1}")[0]
        except ReadFailed as error:
            if "InvalidRange" in str(error):  # it is empty: no span of it is one
                return b""
            raise

    def read_many(
        self, entries: Iterable[Entry], most: int | None = None
    ) -> Iterator[bytes | OSError]:
        """The contents of files, in order; many are under way at once."""
        through = reader(self.bucket)

        def content(entry: Entry) -> bytes | OSError:
            key = self.prefix + entry.name
            return read_or_error(entry, most, lambda: through.read(key, entry.version, most))

        return prefetch(content, entries, number("CONNECTIONS"))

    def open_read(self, name: str) -> BinaryIO:
        key = self.prefix + name
        head = call("head_object", self.bucket, Key=key)
        return io.BufferedReader(ChunkReader(chunks(self.bucket, key, head)), 1 << 20)

    def write(self, name: str, data: bytes) -> None:
        with self.open_write(name) as file:
            file.write(data)

    @contextlib.contextmanager
    def open_write(self, name: str) -> Iterator[BinaryIO]:
        """A file to fill; it appears when the block ends well and our locks still hold."""
        upload = Upload(self.bucket, self.prefix + name)
        try:
            yield cast(BinaryIO, upload)
            check(self, name)
            upload.finish()
        except BaseException:
            upload.abort()
            raise

    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """As LocalPlace.update; where a server has no conditional writes, the later one stands."""
        key = self.prefix + name
        for _ in range(_MOST_CHANGES):
            try:
                data, tag = get(self.bucket, key)
                condition = {"IfMatch": f'"{tag}"'}
            except FileNotFoundError:
                data, condition = None, {"IfNoneMatch": "*"}
            if (made := change(data)) is None:
                return
            with contextlib.suppress(ChangedError, FileNotFoundError):  # another was faster
                put(self.bucket, key, made, **condition)
                return
        raise StorageError(f"{self}/{name}: changes all the time; try again later")

    def exists(self, name: str = "") -> bool:
        return next(self._keys(name), None) is not None

    def names(self, name: str = "") -> list[str]:
        below, names = self._below(name), set()
        for item in listing.keys(self.bucket, below, Delimiter="/"):
            key = item.get("Key") or item["Prefix"]
            names.add(key[len(below) :].removesuffix("/"))
        return sorted(name for name in names if name and not name.startswith("."))

    def _keys(self, name: str) -> Iterator[str]:
        """The keys of a file, and of all in a folder of that name."""
        if name and listing.first(self.bucket, self.prefix + name) == self.prefix + name:
            yield self.prefix + name
        yield from (item["Key"] for item in listing.keys(self.bucket, self._below(name)))

    def remove(self, name: str) -> None:
        check(self, name)
        self._delete(list(self._keys(name)))

    def remove_if_empty(self) -> None:
        """Nothing: a prefix without objects does not exist."""

    def rename(self, name: str, to: str) -> None:
        """Give a file or a folder another name; it has both until all of it is copied."""
        self.remove(to)
        old, moved = len(self.prefix + name), list(self._keys(name))

        def copy(key: str) -> None:
            origin = {"Bucket": self.bucket, "Key": key}
            call("copy_object", self.bucket, Key=self.prefix + to + key[old:], CopySource=origin)

        run_all(copy, moved, number("CONNECTIONS"))
        self._delete(moved)

    def _delete(self, keys: list[str]) -> None:
        def delete(key: str) -> None:
            call("delete_object", self.bucket, Key=key)

        run_all(delete, keys[:-1], number("CONNECTIONS"))
        run_all(delete, keys[-1:], 1)  # the last one last

    def check_readable(self, names: list[str]) -> None:
        """Nothing, if one of the files can be read. Raises PlaceError if none may be."""
        denied = None
        for name in names:
            try:
                call("head_object", self.bucket, Key=self.prefix + name)
                return
            except DeniedError as error:
                denied = error
            except (FileNotFoundError, RefusedError, FailingError):
                return  # gone, or a fault of its own: no word about rights
        if denied:
            raise denied

    def check_writable(self) -> None:
        """As LocalStorage.check_writable."""
        probe = f"{self.prefix}.probe-{secrets.token_hex(8)}"
        put(self.bucket, probe, b"visionflows writes here")
        call("delete_object", self.bucket, Key=probe)

    def free_bytes(self) -> None:
        return None  # a bucket has no end

    @contextlib.contextmanager
    def lock(self, name: str, wait: float = 0.0) -> Iterator[None]:
        """As LocalStorage.lock."""
        with hold(self, name, wait):
            yield

    def written(self, name: str) -> dict[str, datetime.datetime]:
        """When the files of a folder were written, by the server's clock."""
        found = listing.keys(self.bucket, self._below(name))
        return {item["Key"].removeprefix(self.prefix): item["LastModified"] for item in found}

    def clear_temporary(self, folders: Iterable[str], ours: Callable[[str], object]) -> None:
        """As LocalPlace.clear_drafts: unfinished uploads of ours; others may be at theirs."""
        known = {self._below(folder) for folder in folders}
        try:
            found = call("list_multipart_uploads", self.bucket, Prefix=self.prefix)
        except (FileNotFoundError, StorageError) as error:  # rclone calls none not found
            log.info("unfinished uploads are not looked for: %s", error)
            return
        for upload in found.get("Uploads", ()):
            folder, slash, name = upload["Key"].rpartition("/")
            if folder + slash in known and ours(name):
                abort_upload(self.bucket, upload["Key"], upload["UploadId"])
