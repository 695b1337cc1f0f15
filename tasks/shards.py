"""What is to score, what is done, what is left; and the books that must balance.

    listing = list_files(place("inbox"), Path("spool"), shard_size=1000)
    job = Job(...); left = open_run(place("out"), job, listing)
    for shard in left: write_part(place("out"), job, shard, rows)
    merge(place("out"), job, listing)

    parts/plan.json          the job this place is being filled for
    parts/part-00000.csv     the rows of a shard, renamed into place when whole
    parts/part-00000.json    written after its part: the part's sha256, and its share of the books
    predictions.csv          all parts, one after the other
    run.json                 written last: without it the run is not done

A part counts as done when its .json names this very job and shard and the part has the sha256
that it says. So a run that was killed at any moment goes on with what is left.
"""

import collections
import csv
import dataclasses
import hashlib
import io
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks.errors import OtherRunError, RunError
from tasks.images import STATUSES
from tasks.storage import Entry, Place, is_image_name, text_of

log = logging.getLogger("visionflows.shards")

COLUMNS = ("path", "status", "label", "confidence", "error")
HISTOGRAM_BINS = 20
PLAN = "parts/plan.json"


@dataclasses.dataclass(frozen=True)
class Shard:
    """Consecutive files of the sorted listing: where their records lie in it, and a digest."""

    index: int
    count: int
    offset: int
    length: int
    digest: str

    @property
    def part(self) -> str:
        return f"parts/part-{self.index:05d}"


@dataclasses.dataclass(frozen=True)
class Listing:
    """The sorted files to score, spooled to disk: memory does not grow with their number."""

    file: Path
    shards: list[Shard]
    digest: str
    found: int
    bytes: int
    ignored: int

    def entries(self, shard: Shard) -> list[Entry]:
        """The files of a shard, in order."""
        with self.file.open("rb") as spool:
            spool.seek(shard.offset)
            fields = spool.read(shard.length).decode("utf-8", "surrogateescape").split("\0")
        return [
            Entry(fields[at], int(fields[at + 1]), fields[at + 2])
            for at in range(0, len(fields) - 1, 3)
        ]


@dataclasses.dataclass(frozen=True)
class Job:
    """What makes a run this run: what it scores, with which model, and the settings that show."""

    input: str
    listing: str
    files: int
    model: str
    classes: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def digest(self) -> str:
        return _sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode())


def list_files(
    source: Place, spool: Path, shard_size: int, leave_out: str | None = None
) -> Listing:
    """The images in a place as shards of `shard_size`, listed once, spooled to a local file.

    `leave_out` is a folder in the place (the output, when it lies inside the input).
    """
    ignored = 0

    def keep(name: str) -> bool:
        nonlocal ignored
        image = is_image_name(name)
        ignored += not image
        return image

    with spool.open("wb") as file:
        shards, size = _spool(_outside(source.walk(keep), leave_out), file, shard_size)
    digest = _sha256("".join(shard.digest for shard in shards).encode())
    return Listing(spool, shards, digest, sum(shard.count for shard in shards), size, ignored)


def _outside(entries: Iterator[Entry], folder: str | None) -> Iterator[Entry]:
    if folder is None:
        return entries
    return (entry for entry in entries if not entry.name.startswith(f"{folder}/"))


def _spool(entries: Iterable[Entry], file, shard_size: int) -> tuple[list[Shard], int]:
    shards, records, offset, total = [], [], 0, 0

    def end_shard() -> None:
        nonlocal offset
        data = "".join(records).encode("utf-8", "surrogateescape")
        file.write(data)
        shards.append(Shard(len(shards), len(records), offset, len(data), _sha256(data)))
        offset += len(data)
        records.clear()

    for name, size, version in entries:
        records.append(f"{name}\0{size}\0{version}\0")
        total += size
        if len(records) == shard_size:
            end_shard()
    if records:
        end_shard()
    return shards, total


def open_run(output: Place, job: Job, listing: Listing, restart: bool = False) -> list[Shard]:
    """The shards that are left to do, after writing down what this place is being filled for.

    Raises OtherRunError where an unfinished run of another job lies there, unless `restart`.
    """
    begun = _begun(output)
    if begun is not None and begun != _plan(job) and not output.exists("run.json") and not restart:
        raise OtherRunError(
            f"{output}: holds an unfinished run of another job ({_difference(begun, _plan(job))}); "
            "finish that one, give another output, or --restart to begin anew"
        )
    if restart:
        output.remove("parts")
    left = [shard for shard in listing.shards if _done(output, job, shard) is None]
    if left or begun != _plan(job):
        output.remove("run.json")
    output.write(PLAN, json.dumps(_plan(job), indent=2, ensure_ascii=False).encode())
    return left


def _plan(job: Job) -> dict:
    return json.loads(json.dumps({**dataclasses.asdict(job), "job": job.digest}))


def _begun(output: Place) -> dict | None:
    return json.loads(output.read(PLAN)) if output.exists(PLAN) else None


def _difference(begun: dict, now: dict) -> str:
    """What differs between two jobs, for a person: the first of input, model, settings, files."""
    names = {"input": "input", "model": "model", "classes": "classes", "files": "number of files"}
    for key, name in names.items():
        if begun.get(key) != now[key]:
            return f"its {name} is {_short(begun.get(key))}, this one's {_short(now[key])}"
    for key, value in now["settings"].items():
        before = begun.get("settings", {}).get(key)
        if before != value:
            return f"its {key} is {before}, this one's {value}"
    return "files were added, removed or changed since"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"


def _done(output: Place, job: Job, shard: Shard) -> tuple[dict, bytes] | None:
    """The record and the bytes of a part that is whole and of this job, else None."""
    if not (output.exists(f"{shard.part}.json") and output.exists(f"{shard.part}.csv")):
        return None
    record, data = json.loads(output.read(f"{shard.part}.json")), output.read(f"{shard.part}.csv")
    ours = record["job"] == job.digest and record["shard"] == shard.digest
    return (record, data) if ours and record["sha256"] == _sha256(data) else None


def write_part(output: Place, job: Job, shard: Shard, rows: Iterable) -> dict:
    """Write the rows of a shard and then the record that says so; returns the record.

    `rows` are predict.Row in listing order. Raises RunError where a file has no row of its own.
    """
    books = Books()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(header(job.classes))
    for row in rows:
        writer.writerow(_cells(row, job.classes, books))
    if books.found != shard.count:
        raise RunError(f"shard {shard.index}: {books.found} rows for {shard.count} files")
    data = text.getvalue().encode()
    record = {
        "job": job.digest,
        "shard": shard.digest,
        "bytes": len(data),
        "sha256": _sha256(data),
        "books": books.as_dict(),
        "histogram": books.histogram,
    }
    output.write(f"{shard.part}.csv", data)
    output.write(f"{shard.part}.json", json.dumps(record, ensure_ascii=False).encode())
    return record


def header(classes: Iterable[str]) -> list[str]:
    """The columns of predictions.csv for a model's classes."""
    return [*COLUMNS, *(f"p_{name}" for name in classes)]


def _cells(row, classes: tuple[str, ...], books: "Books") -> list[str]:
    """A row as text. Six decimals: a float32 softmax has about seven digits to give."""
    path = text_of(row.name)
    if row.status != "ok":
        books.add(row.status)
        return [path, row.status, "", "", row.error, *("" for _ in classes)]
    best = int(row.probabilities.argmax())
    confidence = float(row.probabilities[best])
    books.add("ok", classes[best], confidence)
    probabilities = [f"{value:.6f}" for value in row.probabilities.tolist()]
    return [path, "ok", classes[best], probabilities[best], "", *probabilities]


class Books:
    """How many files were found, and what became of each."""

    def __init__(self):
        self.by_status = collections.Counter()
        self.by_label = collections.Counter()
        self.histogram = [0] * HISTOGRAM_BINS

    @property
    def found(self) -> int:
        return sum(self.by_status.values())

    def add(self, status: str, label: str = "", confidence: float = 0.0) -> None:
        """Enter a file."""
        self.by_status[status] += 1
        if status == "ok":
            self.by_label[label] += 1
            bin_ = min(int(confidence * HISTOGRAM_BINS), HISTOGRAM_BINS - 1)
            self.histogram[bin_] += 1

    def add_record(self, record: dict) -> None:
        """Enter a whole part."""
        self.by_status.update(record["books"]["by_status"])
        self.by_label.update(record["books"]["by_label"])
        self.histogram = [a + b for a, b in zip(self.histogram, record["histogram"], strict=True)]

    def as_dict(self) -> dict:
        """found, ok, failed, by_status, by_label."""
        ok = self.by_status["ok"]
        return {
            "found": self.found,
            "ok": ok,
            "failed": sum(self.by_status[status] for status in STATUSES if status != "ok"),
            "by_status": dict(sorted(self.by_status.items())),
            "by_label": dict(sorted(self.by_label.items())),
        }


def merge(output: Place, job: Job, listing: Listing) -> tuple[Books, dict]:
    """Write predictions.csv from the parts; returns the books and {bytes, sha256} of the file.

    Every part is checked on the way. Raises RunError where one is missing or changed, or the
    books do not balance; predictions.csv is then not replaced.
    """
    books, sha256, size = Books(), hashlib.sha256(), 0
    with output.open_write("predictions.csv") as target:

        def put(data: bytes) -> None:
            nonlocal size
            target.write(data)
            sha256.update(data)
            size += len(data)

        put(_header_line(job.classes))
        for shard in listing.shards:
            put(_body(output, job, shard, books))
        _balance(books, listing)
    return books, {"bytes": size, "sha256": sha256.hexdigest()}


def _body(output: Place, job: Job, shard: Shard, books: Books) -> bytes:
    """The rows of a part without its header, once it is seen to be whole."""
    done = _done(output, job, shard)
    if done is None:
        raise RunError(f"{output}/{shard.part}.csv: changed while the run went on; run it again")
    record, data = done
    books.add_record(record)
    return data[len(_header_line(job.classes)) :]


def _header_line(classes: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(header(classes))
    return text.getvalue().encode()


def _balance(books: Books, listing: Listing) -> None:
    entered = books.as_dict()
    labelled = sum(entered["by_label"].values())
    if not (listing.found == entered["ok"] + entered["failed"] and labelled == entered["ok"]):
        raise RunError(
            f"the books do not balance: {listing.found} files found, {entered['ok']} ok and "
            f"{entered['failed']} failed; nothing was published, please report this"
        )


def finish(output: Place, run: dict) -> None:
    """Write run.json, which says that everything before it is there."""
    output.write("run.json", json.dumps(run, indent=2, ensure_ascii=False).encode())


def batches(entries: list[Entry], batch_size: int) -> Iterator[list[str]]:
    """The names of a shard's files, `batch_size` at a time."""
    for at in range(0, len(entries), batch_size):
        yield [entry.name for entry in entries[at : at + batch_size]]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
