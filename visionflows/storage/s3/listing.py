"""What a bucket holds: pages of a listing, and the files in them."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from visionflows.errors import StorageError
from visionflows.storage.base import Entry, SkippedFiles
from visionflows.storage.s3.client import Response, call, log
from visionflows.storage.s3.objects import etag

Keep = Callable[[str], bool] | None


def keys(bucket: str, prefix: str, **options: Any) -> Iterator[Response]:
    """The objects and common prefixes below a prefix; one page is in memory at a time."""
    page = {"IsTruncated": True}
    while page.get("IsTruncated"):
        page = call("list_objects_v2", bucket, Prefix=prefix, **options)
        yield from (*page.get("Contents", ()), *page.get("CommonPrefixes", ()))
        options["ContinuationToken"] = page.get("NextContinuationToken")


def first(bucket: str, prefix: str) -> str | None:
    """The first key with a prefix."""
    found = call("list_objects_v2", bucket, Prefix=prefix, MaxKeys=1).get("Contents")
    return found[0]["Key"] if found else None


def walk(bucket: str, prefix: str, keep: Keep, skipped: SkippedFiles) -> Iterator[Entry]:
    """The files below a prefix whose last part `keep` keeps, in the server's order.

    Hidden names are skipped as in a local folder; so are the markers by which consoles show
    folders. Raises StorageError if the prefix is an object.
    """
    objects = keys(bucket, prefix)
    found, key = next(objects, None), prefix.removesuffix("/")
    if found is not None:
        yield from _files(chain([found], objects), prefix, keep, skipped)
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
        if "\0" in name:  # cannot be written to a CSV
            log.warning("s3: %r is skipped: a name with a zero byte", found["Key"])
            continue
        yield Entry(name, found["Size"], etag(found) or f"@{found['LastModified'].isoformat()}")
