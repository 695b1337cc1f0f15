"""A prefix in a bucket as a storage location: `s3://bucket/prefix`.

A prefix ends at its slash: `a/` never means `a_test/`. No key ever becomes a local path.
"""

import contextlib
import datetime
import io
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, cast

from visionflows.bounded_read import TooLarge, out_of_memory
from visionflows.errors import DeniedError, SettingsError, StorageError
from visionflows.escaping import utf8
from visionflows.storage.base import Entry, Keep, SkippedFiles, Storage
from visionflows.storage.prefetch import prefetch, run_all
from visionflows.storage.s3 import listing, objects
from visionflows.storage.s3.bulk_read import reader
from visionflows.storage.s3.client import call, log, number
from visionflows.storage.s3.error_messages import ChangedError, FailingError, RefusedError
from visionflows.storage.s3.lease import check, hold

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_MAX_CONFLICTS = 20  # concurrent updates that one update meets before it gives up


class S3Storage(Storage):
    """A prefix in a bucket; LocalStorage documents each method."""

    is_local = False

    def __init__(self, bucket: str, prefix: str):
        self.bucket, self.prefix = bucket, prefix

    @classmethod
    def parse(cls, text: str) -> "S3Storage":
        """The location at `s3://bucket/prefix`. Raises SettingsError."""
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        if not prefix.isascii() and utf8(prefix).decode() != prefix:
            raise SettingsError(f"{text}: is no UTF-8, as all keys are; give another prefix")
        if not _BUCKET.fullmatch(bucket):  # not quoted: it might be a key and its secret
            todo = "write s3://bucket/prefix; boto3 finds the credentials (AWS_PROFILE …)"
            raise SettingsError(f"s3://…: no bucket's name follows; {todo}")
        return cls(bucket, f"{prefix}/" if prefix and not prefix.endswith("/") else prefix)

    def __str__(self) -> str:
        prefix = self.prefix if self.prefix.endswith("//") else self.prefix.removesuffix("/")
        return f"s3://{self.bucket}/{prefix}" if prefix else f"s3://{self.bucket}"

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

    def walk(self, keep: Keep = None, skipped: SkippedFiles | None = None) -> Iterator[Entry]:
        skipped = skipped or SkippedFiles()
        own = tuple(f"{name}/" for one in skipped.own if (name := self.name_inside(one)))
        found = listing.walk(self.bucket, self.prefix, keep, skipped, own)
        return listing.sort_entries(found)

    def entry(self, name: str) -> Entry:
        head = call("head_object", self.bucket, Key=self.prefix + name)
        version = objects.etag(head) or f"@{head['LastModified'].isoformat()}"
        return Entry(name, head["ContentLength"], version)

    def read(self, name: str) -> bytes:
        return objects.get(self.bucket, self.prefix + name)[0]

    def heads(self, names: Iterable[str], size: int) -> Iterator[bytes | OSError]:
        def head(name: str) -> bytes | OSError:
            try:
                return objects.get(self.bucket, self.prefix + name, span=f"bytes=0-{size - 1}")[0]
            except OSError as error:
                return b"" if "InvalidRange" in str(error) else error  # the object is empty

        return prefetch(head, names, number("CONNECTIONS"))

    def read_many(
        self, entries: Iterable[Entry], max_bytes: int | None = None
    ) -> Iterator[bytes | OSError]:
        bulk = reader(self.bucket)

        def content(entry: Entry) -> bytes | OSError:
            if max_bytes is not None and entry.size > max_bytes:
                return TooLarge(entry.size)
            try:
                return bulk.read(self.prefix + entry.name, entry.version, max_bytes)
            except OSError as error:
                return error
            except MemoryError:
                return out_of_memory()

        return prefetch(content, entries, number("CONNECTIONS"))

    def open_read(self, name: str) -> BinaryIO:
        key = self.prefix + name
        head = call("head_object", self.bucket, Key=key)
        chunks = objects.chunks(self.bucket, key, head)
        return io.BufferedReader(objects.ChunkReader(chunks), 1 << 20)

    @contextlib.contextmanager
    def open_write(self, name: str) -> Iterator[BinaryIO]:
        """A file to write; it appears if the block succeeds and the locks still hold."""
        upload = objects.Upload(self.bucket, self.prefix + name)
        try:
            yield cast(BinaryIO, upload)
            check(self, name)
            upload.finish()
        except BaseException:
            upload.abort()
            raise

    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """As LocalStorage.update; on a server without conditional writes the later update wins."""
        key = self.prefix + name
        for _ in range(_MAX_CONFLICTS):
            try:
                data, tag = objects.get(self.bucket, key)
                condition = {"IfMatch": f'"{tag}"'}
            except FileNotFoundError:
                data, condition = None, {"IfNoneMatch": "*"}
            if (content := change(data)) is None:
                return
            with contextlib.suppress(ChangedError, FileNotFoundError):  # a concurrent update won
                objects.put(self.bucket, key, content, **condition)
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
        """The key of a file, and those of all files in a folder of that name."""
        if name and listing.first(self.bucket, self.prefix + name) == self.prefix + name:
            yield self.prefix + name
        yield from (item["Key"] for item in listing.keys(self.bucket, self._below(name)))

    def remove(self, name: str) -> None:
        check(self, name)
        self._delete(list(self._keys(name)))

    def rename(self, name: str, to: str) -> None:
        """As LocalStorage.rename; the files have both names until all are copied."""
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
        run_all(delete, keys[-1:], 1)  # after all others

    def check_readable(self, names: list[str]) -> None:
        denied = None
        for name in names:
            try:
                call("head_object", self.bucket, Key=self.prefix + name)
                return
            except DeniedError as error:
                denied = error
            except (FileNotFoundError, RefusedError, FailingError):
                return  # vanished, or another error: no permission is missing
        if denied:
            raise denied

    def check_writable(self) -> None:
        """Write an object and delete it. Raises StorageError if that fails."""
        probe = f"{self.prefix}.probe-{secrets.token_hex(8)}"
        objects.put(self.bucket, probe, b"visionflows writes here")
        call("delete_object", self.bucket, Key=probe)

    def lock(self, name: str, wait: float = 0.0) -> contextlib.AbstractContextManager[None]:
        return hold(self, name, wait)

    def last_modified(self, name: str) -> dict[str, datetime.datetime]:
        """When the files of a folder were written, by the server's clock; by name from here."""
        found = listing.keys(self.bucket, self._below(name))
        return {item["Key"].removeprefix(self.prefix): item["LastModified"] for item in found}

    def clear_temporary(self, folders: Iterable[str], is_own: Callable[[str], object]) -> None:
        """Abort unfinished uploads of our own names; others may be uploading theirs."""
        prefixes = {self._below(folder) for folder in folders}
        try:
            found = call("list_multipart_uploads", self.bucket, Prefix=self.prefix)
        except (FileNotFoundError, StorageError) as error:  # rclone: not found, if there is none
            log.info("unfinished uploads cannot be listed: %s", error)
            return
        for upload in found.get("Uploads", ()):
            folder, slash, name = upload["Key"].rpartition("/")
            if folder + slash in prefixes and is_own(name):
                objects.abort_upload(self.bucket, upload["Key"], upload["UploadId"])
