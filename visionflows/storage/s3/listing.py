"""What a bucket holds: pages of a listing, the files in them, and these sorted by name."""

import contextlib
import itertools
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

from visionflows.errors import StorageError
from visionflows.storage.base import Entry, Keep, SkippedFiles
from visionflows.storage.name_encoding import encode_name
from visionflows.storage.s3.client import Response, call, log
from visionflows.storage.s3.objects import etag
from visionflows.storage.skipped_names import OWN, transfer_kind


def keys(bucket: str, prefix: str, **options: Any) -> Iterator[Response]:
    """The objects and common prefixes below a prefix; one page is in memory at a time."""
    tokens, before, is_truncated = set[str](), list[Response](), True
    while is_truncated:
        page = call("list_objects_v2", bucket, Prefix=prefix, **options)
        found = [*page.get("Contents", ()), *page.get("CommonPrefixes", ())]
        token, is_truncated = page.get("NextContinuationToken") or "", page.get("IsTruncated")
        errors = {
            "the same page twice": found and found[:1] == before,
            "a page without a token": is_truncated and not token,
            "the same token twice": is_truncated and token in tokens,
        }
        if error := next((name for name, is_so in errors.items() if is_so), ""):
            raise StorageError(
                f"s3://{bucket}/{prefix}: cannot be listed: the server sends {error}; update it, "
                "or give a list of the files (a .txt) as the input"
            )
        yield from found
        before, options["ContinuationToken"] = found[:1], token
        tokens.add(token)


def first(bucket: str, prefix: str) -> str | None:
    """The first key with a prefix."""
    found = call("list_objects_v2", bucket, Prefix=prefix, MaxKeys=1).get("Contents")
    return found[0]["Key"] if found else None


def walk(
    bucket: str, prefix: str, keep: Keep, skipped: SkippedFiles, own: tuple[str, ...] = ()
) -> Iterator[Entry]:
    """The files below a prefix whose last part `keep` keeps, in the server's order.

    Hidden names are skipped as in a local folder, and names that begin as one of `own`; so are the
    markers by which consoles show folders. Raises StorageError if the prefix is an object.
    """
    objects = keys(bucket, prefix)
    found, key = next(objects, None), prefix.removesuffix("/")
    if found is not None:
        files = _files(itertools.chain([found], objects), prefix, keep, skipped)
        counted = set[str]()
        for entry in files:
            inside = next((name for name in own if entry.name.startswith(name)), None)
            if inside is None:
                yield entry
            elif inside not in counted:
                skipped.counts[OWN] += 1
                counted.add(inside)
    elif prefix and first(bucket, key) == key:
        raise StorageError(
            f"s3://{bucket}/{key}: is an object, not a folder; name a prefix of objects"
        )
    else:
        log.warning("s3://%s/%s: no object has this prefix", bucket, prefix)


def _files(
    objects: Iterable[Response], prefix: str, keep: Keep, skipped: SkippedFiles
) -> Iterator[Entry]:
    for found in objects:
        name = found["Key"][len(prefix) :]
        last = name.rpartition("/")[2]
        if skipped.count_if_hidden(name) or not last or (keep and not keep(last)):
            continue
        if kind := transfer_kind(last):
            skipped.counts[kind] += 1
            continue
        if skipped.count_if_young(found["LastModified"].timestamp()):
            continue
        if "\0" in name:  # cannot be written to a CSV
            log.warning("s3: %r is skipped: a name with a zero byte", found["Key"])
            continue
        yield Entry(name, found["Size"], etag(found) or f"@{found['LastModified'].isoformat()}")


def sort_entries(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries by the encoded text of their names, which SQLite sorts in a temporary file.

    Raises StorageError if the disk is full.
    """
    rows = ((encode_name(entry.name), *entry) for entry in entries)
    try:
        with contextlib.closing(_open_table()) as table:
            # A server that lists a key twice has one object of it.
            table.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", rows)
            found = table.execute("SELECT name, size, version FROM entries ORDER BY key")
            yield from map(Entry._make, found)
    except (sqlite3.OperationalError, OSError) as error:
        folder, reason = tempfile.gettempdir(), getattr(error, "strerror", None) or str(error)
        raise StorageError(
            f"{folder}: a listing cannot be sorted there ({reason}); free some space, or set "
            "TMPDIR to another folder"
        ) from error


def _open_table() -> sqlite3.Connection:
    """An empty table in a temporary file, which has no name any more and is gone when closed."""
    with tempfile.NamedTemporaryFile(prefix="visionflows-") as file:
        table = sqlite3.connect(file.name, check_same_thread=False)
        table.execute("PRAGMA journal_mode = OFF")
        table.execute("PRAGMA cache_size = -10000")  # KiB
        table.execute("CREATE TABLE entries (key PRIMARY KEY, name, size, version) WITHOUT ROWID")
    return table
