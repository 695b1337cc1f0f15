"""What a bucket holds: pages of a listing, the files in them, and these sorted by name."""

import heapq
import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from visionflows.errors import StorageError
from visionflows.storage.base import OWN, Entry, Keep, SkippedFiles, transfer_kind
from visionflows.storage.name_encoding import encode_name
from visionflows.storage.s3.client import Response, call, log
from visionflows.storage.s3.objects import etag

RUN = 20_000  # entries sorted at once; about 10 MB
BLOCK = 200  # entries of a run that are read at once


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
    """The entries by the encoded text of their names; many are sorted in one temporary file.

    Raises StorageError if the disk is full.
    """
    remaining = iter(entries)
    runs = iter(lambda: sorted(itertools.islice(remaining, RUN), key=_key), [])
    first = next(runs, [])
    if len(first) < RUN:
        yield from first
        return
    try:
        with tempfile.TemporaryFile(prefix="visionflows-") as file:
            written = [_write_run(file, run) for run in itertools.chain([first], runs)]
            yield from heapq.merge(*(_read_run(file, blocks) for blocks in written), key=_key)
    except OSError as error:
        folder, reason = tempfile.gettempdir(), f"cannot be sorted there ({error.strerror})"
        todo = "free some space, or set TMPDIR to another folder"
        raise StorageError(f"{folder}: a listing {reason}; {todo}") from error


def _key(entry: Entry) -> str:
    return encode_name(entry.name)


def _write_run(file: BinaryIO, run: list[Entry]) -> list[tuple[int, int]]:
    """Write sorted entries in blocks; where each is in the file, and how many bytes it takes."""
    blocks = []
    for at in range(0, len(run), BLOCK):
        data = json.dumps(run[at : at + BLOCK]).encode()
        blocks.append((file.tell(), file.write(data)))
    file.flush()
    return blocks


def _read_run(file: BinaryIO, blocks: list[tuple[int, int]]) -> Iterator[Entry]:
    for at, size in blocks:
        yield from itertools.starmap(Entry, json.loads(os.pread(file.fileno(), size, at)))
