"""Entries sorted by name, on disk if there are many.

One temporary file holds all sorted runs, so that only one descriptor is open.
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


def sort_entries(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries by the encoded text of their names. Raises StorageError if the disk is full."""
    entries = iter(entries)
    run = sorted(itertools.islice(entries, RUN), key=_key)
    if len(run) < RUN:
        yield from run
        return
    runs = []
    try:
        with tempfile.TemporaryFile(prefix="visionflows-") as file:
            while run:
                runs.append(_write_run(file, run))
                run = sorted(itertools.islice(entries, RUN), key=_key)
            yield from heapq.merge(*(_read_run(file, *span) for span in runs), key=_key)
    except OSError as error:
        raise StorageError(
            f"{tempfile.gettempdir()}: a listing cannot be sorted there ({error.strerror}); free "
            "some space, or set TMPDIR to another folder"
        ) from error


def _key(entry: Entry) -> str:
    return encode_name(entry.name)


def _write_run(file: BinaryIO, run: list[Entry]) -> tuple[int, int]:
    """Write a run of entries; its start and end in the file."""
    start = file.tell()
    file.writelines(f"{json.dumps(entry)}\n".encode() for entry in run)
    file.flush()
    return start, file.tell()


def _read_run(file: BinaryIO, at: int, end: int) -> Iterator[Entry]:
    rest = b""
    while at < end:
        block = os.pread(file.fileno(), min(BLOCK, end - at), at)
        at += len(block)
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield Entry(*json.loads(line))
