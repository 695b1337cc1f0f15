"""What is done and what is left of a scoring run; and the books that must balance.

    left = open_run(place("out"), job, listing)
    for shard in left: write_part(place("out"), job, shard, rows)
    merge(place("out"), job, listing)

    parts/plan.json          the job this place is being filled for
    parts/part-00000.csv     the rows of a shard, renamed into place when whole
    parts/part-00000.files   the size, version and sha256 of each of its files
    parts/part-00000.json    written after both: their sha256, and the part's share of the books
    previous/<n>/            parts of earlier runs, while --only-new takes rows over from them
    predictions.csv          all parts, one after the other
    failures.csv             the rows that are not ok, if any; can be the input of another run
    run.json                 written last: without it the run is not done

A part counts as done when its .json names this very job and shard, and the part is what it says.
So a run that was killed at any moment goes on with what is left.
"""

import csv
import io
import logging
from collections.abc import Iterable, Iterator

from visionflows.digest import Digested, sha256_of
from visionflows.errors import OtherRunError, RunError
from visionflows.places.base import Entry, Place
from visionflows.places.names import text_of
from visionflows.scoring.books import Books
from visionflows.scoring.job import COLUMNS, Job
from visionflows.scoring.listing import File, Listing, Shard
from visionflows.scoring.schema import Plan, Record, RunResult, WrittenFile
from visionflows.stored import NotSoError

log = logging.getLogger("visionflows.shards")

PLAN = "parts/plan.json"


def begun(output: Place, folder: str = "parts") -> Plan | None:
    """The plan this place is being filled for, or was; None where that cannot be read."""
    try:
        return Plan.read(output.read(f"{folder}/plan.json"))
    except FileNotFoundError:
        return None
    except NotSoError as error:
        log.warning("%s/%s/plan.json: %s; it counts as none", output, folder, error)
        return None


def open_run(
    output: Place, job: Job, listing: Listing, restart: bool = False, only_new: bool = False
) -> list[Shard]:
    """The shards that are left to do, after writing down what this place is being filled for.

    The parts of a finished run of another job are removed, or set aside for `only_new`. Raises
    OtherRunError where an unfinished run of another job lies there, unless `restart`.
    """
    plan = begun(output)
    if plan is not None and plan != job.as_plan():
        if not (restart or only_new or output.exists("run.json")):
            raise OtherRunError(
                f"{output}: holds an unfinished run of another job ({job.difference(plan)}); "
                "finish that one, give another output, or --restart to begin anew"
            )
        _make_way(output, set_aside=only_new and not restart)
    elif restart:
        output.remove("parts")
    left = _left(output, job, listing)
    if left or plan != job.as_plan():
        output.remove("run.json")
    output.write(PLAN, job.as_plan().text())
    return left


def _left(output: Place, job: Job, listing: Listing) -> list[Shard]:
    """The shards without a whole part. Only what a listing names is looked at."""
    there = set(output.names("parts"))
    perhaps = [shard for shard in listing.shards if f"{shard.part[6:]}.json" in there]
    whole = {
        shard.index
        for shard, found in zip(perhaps, all_done(output, job.digest, perhaps), strict=True)
        if found
    }
    return [shard for shard in listing.shards if shard.index not in whole]


def _make_way(output: Place, set_aside: bool) -> None:
    """Take the parts of another job out of the way of this one's."""
    if set_aside:
        newest = max((int(name) for name in output.names("previous")), default=0)
        output.rename("parts", f"previous/{newest + 1:06d}")
    else:
        output.remove("parts")
        output.remove("previous")


def done(output: Place, job: str | None, shard: Shard) -> tuple[Record, bytes] | None:
    """The record and the bytes of a part that is whole and of this job, else None."""
    return next(all_done(output, job, [shard]))


def all_done(
    output: Place, job: str | None, some: Iterable[Shard]
) -> Iterator[tuple[Record, bytes] | None]:
    """What `done` says of each shard, in order; where reading takes time, many are under way."""
    some = list(some)
    names = [f"{shard.part}.{kind}" for shard in some for kind in ("json", "csv")]
    contents = output.read_many(Entry(name, 0, "") for name in names)
    for shard, (record, data) in zip(some, zip(contents, contents, strict=True), strict=True):
        yield _whole(record, data, job, shard)


def _whole(
    written: bytes | OSError, data: bytes | OSError, job: str | None, shard: Shard
) -> tuple[Record, bytes] | None:
    for content in (written, data):
        if isinstance(content, FileNotFoundError):
            return None
        if isinstance(content, OSError):
            raise content
    try:
        record = Record.read(written)
    except NotSoError:
        return None
    ours = record.job == job and record.shard == shard.digest
    return (record, data) if ours and record.sha256 == sha256_of(data) else None


def write_part(output: Place, job: Job, shard: Shard, files: list[File], rows: Iterable) -> Record:
    """Write the rows of a shard and then the record that says so; returns the record.

    `rows` are engine.Row, one for each file that has no row yet, in order. Raises RunError where
    a file would have no row, or another file's.
    """
    books, text, marks, scored = Books(), io.StringIO(), [], iter(rows)
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(job.header)
    for entry, kept in files:
        row = None if kept else next(scored, None)
        if kept is None and (row is None or row.name != entry.name):
            raise RunError(
                f"shard {shard.index}: no row for {text_of(entry.name)}; nothing written"
            )
        cells = kept.cells if kept else cells_of(row, job)
        books.add(cells, kept=kept is not None)
        writer.writerow(cells)
        sha256 = kept.sha256 if kept else row.sha256
        marks.append(f"{entry.name}\0{entry.size}\0{entry.version}\0{sha256}\0")
    if next(scored, None) is not None:
        raise RunError(f"shard {shard.index}: more rows than files; nothing written")
    data = text.getvalue().encode()
    record = Record(
        schema_version=Record.VERSION,
        job=job.digest,
        shard=shard.digest,
        bytes=len(data),
        sha256=sha256_of(data),
        books=books.counts(),
        histogram=books.histogram,
    )
    output.write(f"{shard.part}.csv", data)
    output.write(f"{shard.part}.files", "".join(marks).encode("utf-8", "surrogateescape"))
    output.write(f"{shard.part}.json", record.text(indent=None))
    return record


def cells_of(row, job: Job) -> list[str]:
    """A row as text. Six decimals: a float32 softmax has about seven digits to give."""
    path = text_of(row.name)
    if row.status != "ok":
        blank = len(job.header) - len(COLUMNS)
        return [path, row.status, "", "", row.error, *("" for _ in range(blank))]
    values = row.probabilities
    best = int(values.argmax())
    texts = [f"{value:.6f}" for value in values.tolist()]
    order = (-values).argsort(kind="stable")[: job.settings.top]
    top = [cell for at in order for cell in (job.classes[at], texts[at])]
    return [path, "ok", job.classes[best], texts[best], "", *texts, *top]


def merge(output: Place, job: Job, listing: Listing) -> tuple[Books, dict[str, WrittenFile]]:
    """Write predictions.csv (and failures.csv) from the parts; the books, and the files' digests.

    Every part is checked on the way. Raises RunError where one is missing or changed, or the
    books do not balance; predictions.csv is then not replaced.
    """
    books = Books()
    with output.open_write("predictions.csv") as target:
        file = Digested(target)
        file.write(_line(job.header))
        parts = all_done(output, job.digest, listing.shards)
        for shard, part in zip(listing.shards, parts, strict=True):
            file.write(_body(output, job, shard, books, part))
        _balance(books, listing)
    written = {"predictions.csv": WrittenFile(bytes=file.size, sha256=file.sha256)}
    output.remove("failures.csv")
    if books.failed:
        with output.open_write("failures.csv") as target:
            file = Digested(target)
            for cells in _failures(output, job, listing):
                file.write(_line(cells))
        written["failures.csv"] = WrittenFile(bytes=file.size, sha256=file.sha256)
    return books, written


def _body(output: Place, job: Job, shard: Shard, books: Books, part) -> bytes:
    """The rows of a part (what `done` says) without its header."""
    if part is None:
        raise RunError(f"{output}/{shard.part}.csv: changed while the run went on; run it again")
    record, data = part
    books.add_record(record)
    return data[len(_line(job.header)) :]


def _failures(output: Place, job: Job, listing: Listing) -> Iterator[list[str]]:
    """The header and rows of failures.csv: path, status and error of what is not ok."""
    yield ["path", "status", "error"]
    for record, data in all_done(output, job.digest, listing.shards):
        if record.books.failed:
            for row in rows_of(data):
                if row[1] != "ok":
                    yield [row[0], row[1], row[4]]


def rows_of(part: bytes) -> Iterator[list[str]]:
    """The rows of a part, or of predictions.csv, without the header."""
    reader = csv.reader(io.StringIO(part.decode(), newline=""))
    next(reader)
    return reader


def _line(cells: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode()


def _balance(books: Books, listing: Listing) -> None:
    counts = books.counts()
    if listing.found != counts.found:
        raise RunError(
            f"the books do not balance: {listing.found} files found, {counts.ok} ok and "
            f"{counts.failed} failed; nothing was published, please report this"
        )


def finish(output: Place, run: RunResult) -> None:
    """Write run.json, which says that everything before it is there."""
    output.write("run.json", run.text())
    output.remove("previous")
