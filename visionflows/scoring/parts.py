"""Parts of a run: the rows of each shard, written as the shard is scored.

parts/part-00000.csv     the rows
parts/part-00000.files   name, size, version, SHA-256 and backend index of each file
parts/part-00000.json    the record, written last: checksums and counts of the part
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from visionflows.errors import RunError, StorageError
from visionflows.hashing import sha256_of
from visionflows.images.image_status import SCORED_STATUSES, STATUSES
from visionflows.images.memory_limits import MAX_PIXELS, shared_memory_limits
from visionflows.inference.decoding import Row
from visionflows.inference.engine import Backend
from visionflows.label_sets import join_labels, split_labels
from visionflows.scoring.columns import csv_line, csv_rows, format_row
from visionflows.scoring.counts import NewRows, RunCounter
from visionflows.scoring.job import Job
from visionflows.scoring.listing import File, Shard, digest_names
from visionflows.scoring.schema import PartRecord
from visionflows.storage.base import LISTED, MISSING, Entry, Storage, identifies_content
from visionflows.storage.name_encoding import encode_name

_ENDINGS = ("json", "csv", "files")
# Errors that depend on this machine's memory: images.memory_limits, images.open.
_OF_MEMORY = ("memory", " to decode, more than the limit of ", " bytes, more than the limit of ")


class ScoredFile(NamedTuple):
    """The file that a row was computed from; `backend` is an index of the record's backends."""

    name: str
    size: int
    version: str
    sha256: str
    backend: int


class Part(NamedTuple):
    """A complete part: its record, its rows as CSV, and the file of each row."""

    record: PartRecord
    data: bytes
    files: list[ScoredFile]


def read_parts(output: Storage, names: Iterable[str]) -> Iterator[Part | None]:
    """The parts of these names, None for an incomplete one. Raises StorageError if unreadable."""
    names = list(names)
    paths = (f"{name}.{ending}" for name in names for ending in _ENDINGS)
    contents = output.read_many(Entry(path, 0, "") for path in paths)
    for name in names:
        found = [_content(f"{output}/{name}.{ending}", next(contents)) for ending in _ENDINGS]
        yield _parse_part(*found)


def _content(path: str, content: bytes | OSError) -> bytes | None:
    if isinstance(content, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return None
    if isinstance(content, OSError):
        why = content.strerror or content
        raise StorageError(f"{path}: cannot be read ({why}); grant this user access") from content
    return content


def _parse_part(record: bytes | None, data: bytes | None, files: bytes | None) -> Part | None:
    if record is None or data is None or files is None:
        return None
    try:
        found = PartRecord.read(record)
        scored = [*_parse_files(files, found)]
    except ValueError:
        return None
    names = digest_names(file.name for file in scored)
    checksums = found.sha256 == sha256_of(data) and found.files == sha256_of(files)
    complete = found.shard == names and found.counts.found == len(scored)
    return Part(found, data, scored) if checksums and complete else None


def _parse_files(data: bytes, record: PartRecord) -> Iterator[ScoredFile]:
    """The files of a part. Raises ValueError if the data is cut or refers to no backend."""
    *fields, last = data.decode("utf-8", "surrogateescape").split("\0")
    if last or len(fields) % 5:
        raise ValueError("cut short")
    for at in range(0, len(fields), 5):
        name, size, version, sha256, backend = fields[at : at + 5]
        file = ScoredFile(name, int(size), version, sha256, int(backend))
        if not 0 <= file.backend < len(record.backends):
            raise ValueError("no such backend")
        yield file


def belongs_to(part: Part, job: Job) -> bool:
    """Whether the rows have the job's columns and classes, and add up to the record's counts."""
    counter, header = RunCounter(job.flags), job.header
    if not part.data.startswith(csv_line(header)):
        return False
    try:
        for cells, file in zip(csv_rows(part.data), part.files, strict=True):
            path, status, label, *_ = cells
            is_label = _is_label(label, job) if status == "ok" else label == ""
            known = path == encode_name(file.name) and status in STATUSES and is_label
            if not known or len(cells) != len(header):
                return False
            counter.add(cells)
    except (ValueError, IndexError, OverflowError, csv.Error):
        return False
    recorded = part.record.counts
    found = counter.counts().model_copy(update={"reused": recorded.reused})
    return found == recorded and counter.histogram == part.record.histogram


def _is_label(label: str, job: Job) -> bool:
    """Whether a row can have this label: a class, or with several labels any of them."""
    if not job.multi_label:
        return label in job.classes
    labels = split_labels(label)
    return join_labels(labels) == label and all(one in job.classes for one in labels)


def depends_on_bytes(cells: list[str], file: ScoredFile, by: Backend, current: Backend) -> bool:
    """Whether a row of backend `by` depends only on the file's bytes, so `current` would agree."""
    _, status, _, _, error, *_ = cells
    if status in SCORED_STATUSES or not file.sha256:
        return bool(file.sha256)
    # A file that was missing or not fetched, and one for which memory was short, may be read now.
    short_of_memory = any(text in error for text in _OF_MEMORY)
    refused = status in ("unreadable", "too_large")
    return refused and by.versions == current.versions and not short_of_memory


def has_no_failure_to_retry(part: Part, files: list[File], current: Backend) -> bool:
    """Whether all rows depend on the files' bytes, or are of files that are still missing."""
    return all(
        cells[1] in SCORED_STATUSES
        or entry.version == MISSING
        or depends_on_bytes(cells, scored, part.record.backends[scored.backend], current)
        for cells, scored, (entry, *_) in zip(csv_rows(part.data), part.files, files, strict=True)
    )


def is_up_to_date(part: Part, files: list[File], source: Storage) -> bool:
    """Whether a part was computed from these files, by size and version, else by the SHA-256."""
    unsure = [
        (entry, scored)
        for (entry, *_), scored, cells in zip(files, part.files, csv_rows(part.data), strict=True)
        if not same_version(entry, scored) or (cells[1] == "missing") != (entry.version == MISSING)
    ]
    for entry, scored in unsure:
        if not scored.sha256 or entry.version == MISSING or other_size(entry, scored):
            return False
    return has_content(source, unsure)


def has_content(source: Storage, files: list[tuple[Entry, ScoredFile]]) -> bool:
    """Whether files have the content of which their rows were computed.

    Only what a run reads is read: one that is too large, or no file by now, is scored again, so
    that its row says so.
    """
    limit = shared_memory_limits(MAX_PIXELS).encoded
    contents = source.read_many([entry for entry, _ in files], limit)
    return all(
        isinstance(content, bytes) and sha256_of(content) == scored.sha256
        for content, (_, scored) in zip(contents, files, strict=True)
    )


def same_version(entry: Entry, scored: ScoredFile) -> bool:
    """Whether size and version show that a file is unchanged, without reading it."""
    same = (entry.size, entry.version) == (scored.size, scored.version)
    return same and identifies_content(entry.version)


def other_size(entry: Entry, scored: ScoredFile) -> bool:
    """Whether a file has another size than before; a file from a list has no known size."""
    return LISTED not in (entry.version, scored.version) and entry.size != scored.size


def write_part(
    output: Storage,
    job: Job,
    shard: Shard,
    files: list[File],
    rows: Iterable[Row],
    backends: Sequence[Backend],
) -> None:
    """Write the rows of a shard and then the record; the first of `backends` computed `rows`.

    Raises RunError if a file without a reused row has no row, or the row of another file.
    """
    counter, new_rows, lines = RunCounter(job.flags), NewRows(job.header), [csv_line(job.header)]
    scored: list[ScoredFile] = []
    for file, (cells, one) in zip(files, _match_rows(job, shard, files, rows), strict=True):
        counter.add(cells, reused=file.reused is not None)
        lines.append(csv_line(cells))
        scored.append(one)
        if file.reused is None and cells[1] != file.last_failure:
            new_rows.add(cells, None if one.version == LISTED else one.size, one.sha256)
    used = sorted({one.backend for one in scored})
    data = b"".join(lines)
    fields = (field for one in scored for field in (*one[:4], used.index(one.backend)))
    names = "".join(f"{field}\0" for field in fields).encode("utf-8", "surrogateescape")
    record = PartRecord(
        schema_version=PartRecord.VERSION,
        job=job.row_digest,
        shard=shard.names,
        bytes=len(data),
        sha256=sha256_of(data),
        files=sha256_of(names),
        backends=tuple(backends[index] for index in used),
        counts=counter.counts(),
        histogram=counter.histogram,
        **({"new_rows": new_rows.summary(job.run)} if job.run else {}),
    )
    for ending, content in (("csv", data), ("files", names), ("json", record.text(indent=None))):
        output.write(f"{shard.part}.{ending}", content)


def _match_rows(
    job: Job, shard: Shard, files: list[File], rows: Iterable[Row]
) -> Iterator[tuple[list[str], ScoredFile]]:
    """The cells of each file's own row, and what they are computed from. Raises RunError."""
    rows, columns = iter(rows), len(job.header)
    for entry, reused, _ in files:
        if reused:
            cells, scored = reused.cells, ScoredFile(*entry, reused.sha256, reused.backend)
        else:
            row = next(rows, None)
            if row is None or row.name != entry.name:
                raise RunError(
                    f"shard {shard.index}: no row for {encode_name(entry.name)}; nothing written"
                )
            cells = format_row(row, job.classes, job.settings)
            scored = ScoredFile(*entry, row.sha256, 0)
        if len(cells) != columns:
            raise RunError(
                f"shard {shard.index}: {cells[0]} has {len(cells)} cells, not {columns}; nothing "
                "written, please report this"
            )
        yield cells, scored
    if next(rows, None) is not None:
        raise RunError(f"shard {shard.index}: more rows than files; nothing written")
