"""What is in a bucket: pages of a listing, and the files in them, as they come.

for entry in walk("inbox", "2020/", str.isascii, Passed()): print(entry.name, entry.size)
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from visionflows.errors import StorageError
from visionflows.storage.base import Entry, SkippedFiles
from visionflows.storage.s3.client import Answer, call, log
from visionflows.storage.s3.objects import tag_of

Keep = Callable[[str], bool] | None


def keys(bucket: str, prefix: str, **options: Any) -> Iterator[Answer]:
    """What a listing has below a prefix, a page in memory at a time; each a try of its own."""
    page = {"IsTruncated": True}
    while page.get("IsTruncated"):
        page = call("list_objects_v2", bucket, Prefix=prefix, **options)
        yield from (*page.get("Contents", ()), *page.get("CommonPrefixes", ()))
        options["ContinuationToken"] = page.get("NextContinuationToken")


def first(bucket: str, prefix: str) -> str | None:
    """The first key that begins so."""
    found = call("list_objects_v2", bucket, Prefix=prefix, MaxKeys=1).get("Contents")
    return found[0]["Key"] if found else None


def walk(bucket: str, prefix: str, keep: Keep, skipped: SkippedFiles) -> Iterator[Entry]:
    """The files below a prefix that `keep` keeps by their last part, a page in memory at a time.

    `passed` is told of what is hidden, as on a disk; what consoles make to show folders is left
    out. S3 lists keys by their bytes, which is the order of our names but for such as are escaped;
    some servers have another. Raises PlaceError where the prefix is an object.
    """
    objects = keys(bucket, prefix)
    found, key = next(objects, None), prefix.removesuffix("/")
    if found is not None:
        yield from _files(chain([found], objects), prefix, keep, skipped)
    elif prefix and first(bucket, key) == key:
        raise StorageError(
            f"s3://{bucket}/{key}: is an object, not a folder; name a prefix of some"
        )
    else:
        log.warning("s3://%s/%s: no object has this prefix", bucket, prefix)


def _files(
    objects: Iterable[Answer], prefix: str, keep: Keep, skipped: SkippedFiles
) -> Iterator[Entry]:
    for found in objects:
        name = found["Key"][len(prefix) :]
        last = name.rpartition("/")[2]
        if skipped.hides(name) or not last or (keep and not keep(last)):
            continue
        if "\0" in name:  # neither a CSV nor a person can be given it
            log.warning("s3: %r is left out: a name with a zero byte", found["Key"])
            continue
        yield Entry(name, found["Size"], tag_of(found) or f"@{found['LastModified'].isoformat()}")
