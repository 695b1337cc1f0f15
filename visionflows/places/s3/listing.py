"""What is in a bucket: pages of a listing as they come, and files in the order of their names.

from visionflows.places.s3.listing import keys, walk
for entry in walk("inbox", "2020/", str.isascii, Passed()):
    print(entry.name, entry.size)
"""

import heapq
import itertools
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator

from visionflows.errors import PlaceError
from visionflows.places.base import Entry, Passed, hidden_as
from visionflows.places.names import text_of
from visionflows.places.s3.client import call
from visionflows.places.s3.objects import tag_of

log = logging.getLogger("visionflows.s3")

RUN = 20_000  # entries sorted at once; about 10 MB


def pages(bucket: str, prefix: str, **options) -> Iterator[dict]:
    """The pages of a listing, one in memory at a time; each a try of its own."""
    token = {}
    while True:
        page = call("list_objects_v2", bucket, Prefix=prefix, **options, **token)
        yield page
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def keys(bucket: str, prefix: str) -> Iterator[dict]:
    """The objects below a prefix, as the listing has them."""
    for page in pages(bucket, prefix):
        yield from page.get("Contents", ())


def walk(bucket: str, prefix: str, keep: Callable[[str], bool], passed: Passed) -> Iterator[Entry]:
    """The files below a prefix that `keep` keeps by their last part, by the text of their names.

    `passed` is told of what is passed over. Left out: what consoles make to show folders, and
    hidden files, as on a disk. A key is no path: `..` and empty parts are parts like others.
    Raises PlaceError where the prefix is the name of an object.
    """
    objects = keys(bucket, prefix)
    first = next(objects, None)
    if first is None:
        _say_empty(bucket, prefix)
        return
    yield from in_order(_files(itertools.chain([first], objects), prefix, keep, passed))


def _files(
    objects: Iterable[dict], prefix: str, keep: Callable[[str], bool], passed: Passed
) -> Iterator[Entry]:
    hidden: list[str] = []  # the folders down to the hidden one that was counted last
    for found in objects:
        name = found["Key"][len(prefix) :]
        parts = name.split("/")
        at = next((at for at, part in enumerate(parts) if hidden_as(part)), None)
        if at is not None:
            if parts[: at + 1] != hidden:  # keys below one folder follow each other
                hidden = parts[: at + 1]
                passed.hidden[hidden_as(parts[at])] += 1
            continue
        if not parts[-1] or not keep(parts[-1]):
            continue
        if "\0" in name:  # neither a CSV nor a person can be given it
            log.warning("s3: %r is left out: a name with a zero byte", found["Key"])
            continue
        yield Entry(name, found["Size"], tag_of(found) or f"@{found['LastModified'].isoformat()}")


def _say_empty(bucket: str, prefix: str) -> None:
    key = prefix.removesuffix("/")
    found = call("list_objects_v2", bucket, Prefix=key, MaxKeys=1).get("Contents", ())
    if prefix and found and found[0]["Key"] == key:
        raise PlaceError(
            f"s3://{bucket}/{key}: is an object, not a folder; name the prefix of the images"
        )
    log.warning("s3://%s/%s: no object has this prefix", bucket, prefix)


def in_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries by the text of their names, sorted on disk where they are many.

    S3 lists in the order of the keys' bytes, which is the same but for names that are escaped;
    servers that imitate it do not always.
    """
    entries, runs = iter(entries), []
    while run := sorted(itertools.islice(entries, RUN), key=_order):
        if not runs and len(run) < RUN:
            yield from run
            return
        runs.append(_spooled(run))
    yield from heapq.merge(*runs, key=_order)


def _order(entry: Entry) -> str:
    return text_of(entry.name)


def _spooled(run: list[Entry]) -> Iterator[Entry]:
    file = tempfile.TemporaryFile("w+", prefix="visionflows-")  # noqa: SIM115 (read later)
    file.writelines(f"{json.dumps(entry)}\n" for entry in run)
    file.seek(0)
    return _unspooled(file)


def _unspooled(file) -> Iterator[Entry]:
    with file:
        for line in file:
            yield Entry(*json.loads(line))
