"""A part of a run: the rows of a shard, what they are of, and the record that all is whole.

    write_part(place("out"), job, shard, files, rows, backends)
    for whole in read_parts(place("out"), ["parts/part-00000"]): …

    parts/part-00000.csv     the rows of a shard, renamed into place when whole
    parts/part-00000.files   the size, version and sha256 of each of its files, and what computed it
    parts/part-00000.json    written after both: their sha256, and the part's share of the books

What lies there is read as a stranger would: a part that is torn, empty or not what its record says
is none, and nothing else.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from visionflows.errors import RunError, StorageError
from visionflows.hashing import sha256_of
from visionflows.images.image_status import SCORED_STATUSES, STATUSES
from visionflows.inference.backend import Backend
from visionflows.inference.decoding import Row
from visionflows.scoring.counts import RunCounter
from visionflows.scoring.job import Job
from visionflows.scoring.listing import File, Shard, names_digest
from visionflows.scoring.new_rows import NewRows
from visionflows.scoring.row_formatting import format_row
from visionflows.scoring.schema import Record
from visionflows.storage.base import LISTED, MISSING, Entry, Storage, identifies_content
from visionflows.storage.name_encoding import encode_name
from visionflows.versioned_json import SchemaError

KINDS = ("json", "csv", "files")
_REFUSED = ("unreadable", "too_large")
# What refusals say that follow the memory of the machine: images.memory, images.open.
_OF_MEMORY = ("memory", " to decode, more than the limit of ", " bytes, more than the limit of ")


class Mark(NamedTuple):
    """What a row was computed from; `by` is an index into its record's `backends`."""

    name: str
    size: int
    version: str
    sha256: str
    by: int


class Whole(NamedTuple):
    """A part that is what its record says: that, its rows as CSV, and a mark a row."""

    record: Record
    data: bytes
    marks: list[Mark]


def read_parts(output: Storage, parts: Iterable[str]) -> Iterator[Whole | None]:
    """Each part that is whole, in order, else None; where reading takes time, many are under way.

    Raises PlaceError where one is there and cannot be read.
    """
    names = [f"{part}.{kind}" for part in parts for kind in KINDS]
    contents = output.read_many(Entry(name, 0, "") for name in names)
    for at in range(0, len(names), len(KINDS)):
        found = [next(contents) for _ in KINDS]
        yield _whole([_bytes(f"{output}/{names[at]}", content) for content in found])


def _bytes(what: str, content: bytes | OSError) -> bytes | None:
    if isinstance(content, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return None
    if isinstance(content, OSError):
        why = content.strerror or content
        raise StorageError(
            f"{what}: cannot be read ({why}); give this user the right to"
        ) from content
    return content


def _whole(contents: list[bytes | None]) -> Whole | None:
    written, data, marks = contents
    if written is None or data is None or marks is None:
        return None
    try:
        record = Record.read(written)
        found = list(_marks(marks, record))
    except (SchemaError, ValueError):
        return None
    told = record.sha256 == sha256_of(data) and len(found) == record.counts.found
    if record.files is not None:
        names = names_digest(mark.name for mark in found)
        told = told and record.files == sha256_of(marks) and record.shard == names
    return Whole(record, data, found) if told else None


def _marks(data: bytes, record: Record) -> Iterator[Mark]:
    """The marks of a part; ValueError where they are none. Version 1 did not say what computed."""
    old = record.files is None
    width = 4 if old else 5
    *fields, last = data.decode("utf-8", "surrogateescape").split("\0")
    if last or len(fields) % width:
        raise ValueError("cut short")
    for at in range(0, len(fields), width):
        name, size, version, sha256, *by = fields[at : at + width]
        mark = Mark(name, int(size), version, sha256, 0 if old else int(by[0]))
        if not old and not 0 <= mark.by < len(record.backends):
            raise ValueError("computed by nothing that is named")
        yield mark


def rows_of(part: bytes) -> Iterator[list[str]]:
    """The rows of a part, or of predictions.csv, without the header."""
    reader = csv.reader(io.StringIO(part.decode(), newline=""))
    next(reader)
    return reader


def is_of(whole: Whole, job: Job) -> bool:
    """Whether a part's rows are such as this job writes, of the files it names, and counted."""
    counts, header = RunCounter(job.flags), job.header
    if not whole.data.startswith(line(header)):
        return False
    try:
        rows = list(rows_of(whole.data))
        for cells, mark in zip(rows, whole.marks, strict=True):
            labels = job.classes if cells[1] == "ok" else ("",)
            named = cells[0] == encode_name(mark.name) and cells[2] in labels
            if len(cells) != len(header) or cells[1] not in STATUSES or not named:
                return False
            counts.add(cells)
    except (ValueError, IndexError, OverflowError, csv.Error):
        return False
    ours, told = counts.counts(), whole.record.counts
    same = (ours.by_status, ours.by_label, ours.flags) == (
        told.by_status,
        told.by_label,
        told.flags,
    )
    return same and counts.histogram == list(whole.record.histogram)


def says_of_bytes(cells: list[str], mark: Mark, by: Backend, ours: Backend) -> bool:
    """Whether a row says of a file's bytes what would be said of them now, by `ours`.

    One of what the network saw does, and a refusal by the same decoder; not one of a file that was
    gone or could not be brought, or for which memory was short.
    """
    _, status, _, _, error, *_ = cells
    if status in SCORED_STATUSES or not mark.sha256:
        return bool(mark.sha256)
    short = any(word in error for word in _OF_MEMORY)
    return status in _REFUSED and by.versions == ours.versions and not short


def may_stay(whole: Whole, files: list[File], ours: Backend) -> bool:
    """Whether all rows of a part say something of the bytes, or of files that are still missing."""
    return all(
        cells[1] in SCORED_STATUSES
        or entry.version == MISSING
        or says_of_bytes(cells, mark, whole.record.backends[mark.by], ours)
        for cells, mark, (entry, *_) in zip(rows_of(whole.data), whole.marks, files, strict=True)
    )


def still_holds(whole: Whole, files: list[File], source: Storage) -> bool:
    """Whether a part's rows are of a shard's files as they are now.

    A file whose size and version are what they were is the same; where that says too little, its
    sha256 settles it. That a file is missing holds of one that still is.
    """
    missing = [cells[1] == "missing" for cells in rows_of(whole.data)]
    doubts = [
        (entry, mark)
        for (entry, *_), mark, gone in zip(files, whole.marks, missing, strict=True)
        if not same_version(entry, mark) or gone != (entry.version == MISSING)
    ]
    for entry, mark in doubts:
        if not mark.sha256 or entry.version == MISSING:
            return False
        if other_size(entry, mark):
            return False
    contents = source.read_many([entry for entry, _ in doubts])
    return all(
        isinstance(content, bytes) and sha256_of(content) == mark.sha256
        for content, (_, mark) in zip(contents, doubts, strict=True)
    )


def same_version(entry: Entry, mark: Mark) -> bool:
    """Whether a file is the one a mark is of, without a look at its content."""
    told = (entry.size, entry.version) == (mark.size, mark.version)
    return told and identifies_content(entry.version)


def other_size(entry: Entry, mark: Mark) -> bool:
    """Whether a file has not the size that a mark is of; of one from a list neither is known."""
    return LISTED not in (entry.version, mark.version) and entry.size != mark.size


def write_part(
    output: Storage,
    job: Job,
    shard: Shard,
    files: list[File],
    rows: Iterable[Row],
    backends: Sequence[Backend],
) -> Record:
    """Write the rows of a shard and then the record that says so; returns the record.

    `rows` are one for each file that has no row yet, in order, computed by the first of `backends`.
    Raises RunError where a file would have no row, another file's, or one of other columns.
    """
    header = job.header
    counts, news, text = RunCounter(job.flags), NewRows(header), io.StringIO()
    marks: list[Mark] = []
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(header)
    for file, (cells, mark) in zip(files, _paired(job, shard, files, rows), strict=True):
        if len(cells) != len(header):
            raise RunError(
                f"shard {shard.index}: the row of {cells[0]} has {len(cells)} cells for "
                f"{len(header)} columns; nothing written, please report this"
            )
        counts.add(cells, kept=file.kept is not None)
        writer.writerow(cells)
        marks.append(mark)
        if file.kept is None and cells[1] != file.failed:  # missing still is no news
            news.add(cells, None if mark.version == LISTED else mark.size, mark.sha256)
    used = sorted({mark.by for mark in marks})
    data = text.getvalue().encode()
    told = "".join(_told(mark, used) for mark in marks).encode("utf-8", "surrogateescape")
    record = Record(
        schema_version=Record.VERSION,
        job=job.unlisted.digest,
        shard=shard.names,
        bytes=len(data),
        sha256=sha256_of(data),
        files=sha256_of(told),
        backends=tuple(backends[by] for by in used),
        counts=counts.counts(),
        histogram=counts.histogram,
        **({"fresh": news.fresh(job.run)} if job.run else {}),
    )
    output.write(f"{shard.part}.csv", data)
    output.write(f"{shard.part}.files", told)
    output.write(f"{shard.part}.json", record.text(indent=None))
    return record


def _paired(
    job: Job, shard: Shard, files: list[File], rows: Iterable[Row]
) -> Iterator[tuple[list[str], Mark]]:
    """The cells and the mark of every file, of its own row. Raises RunError where it has none."""
    scored = iter(rows)
    for entry, kept, _ in files:
        if kept:
            yield kept.cells, Mark(*entry, kept.sha256, kept.by)
            continue
        row = next(scored, None)
        if row is None or row.name != entry.name:
            raise RunError(
                f"shard {shard.index}: no row for {encode_name(entry.name)}; nothing written"
            )
        yield format_row(row, job), Mark(*entry, row.sha256, 0)
    if next(scored, None) is not None:
        raise RunError(f"shard {shard.index}: more rows than files; nothing written")


def _told(mark: Mark, used: list[int]) -> str:
    name, size, version, sha256, by = mark
    return f"{name}\0{size}\0{version}\0{sha256}\0{used.index(by)}\0"


def line(cells: Iterable[str]) -> bytes:
    """A row of a CSV, with its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode()
