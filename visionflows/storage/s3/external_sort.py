"""Entries in the order of their names, sorted on disk where they are many.

    from visionflows.storage.s3.external_sort import in_order
    for entry in in_order(entries): ...

One file holds all that was sorted: however many entries there are, one descriptor is open.
"""

import heapq
import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from visionflows.errors import StorageError
from visionflows.storage.base import Entry
from visionflows.storage.name_encoding import encode_name

RUN = 20_000  # entries sorted at once; about 10 MB
BLOCK = 1 << 14  # bytes of a run that are read at once


def in_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries by the text of their names. Raises PlaceError where the disk is full."""
    entries = iter(entries)
    run = sorted(itertools.islice(entries, RUN), key=_order)
    if len(run) < RUN:
        yield from run
        return
    runs = []
    try:
        with tempfile.TemporaryFile(prefix="visionflows-") as file:
            while run:
                runs.append(_spooled(file, run))
                run = sorted(itertools.islice(entries, RUN), key=_order)
            yield from heapq.merge(*(_unspooled(file, *part) for part in runs), key=_order)
    except OSError as error:
        raise StorageError(
            f"{tempfile.gettempdir()}: a listing cannot be sorted there ({error.strerror}); make "
            "room, or set TMPDIR to another folder"
        ) from error


def _order(entry: Entry) -> str:
    return encode_name(entry.name)


def _spooled(file: BinaryIO, run: list[Entry]) -> tuple[int, int]:
    """Where in the file a run of entries lies now."""
    start = file.tell()
    file.writelines(f"{json.dumps(entry)}\n".encode() for entry in run)
    file.flush()
    return start, file.tell()


def _unspooled(file: BinaryIO, at: int, end: int) -> Iterator[Entry]:
    rest = b""
    while at < end:
        block = os.pread(file.fileno(), min(BLOCK, end - at), at)
        at += len(block)
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield Entry(*json.loads(line))
