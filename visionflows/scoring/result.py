"""The result of a run: the parts joined, and run.json; it replaces the last one when it is whole.

books, backends = tally(place("out"), job, listing)
files = join(place("out"), job, listing, books, folder="", extra=Extra(spreadsheet=True))
finish(place("out"), run)

predictions.csv          all parts, one after the other
failures.csv             the rows that failed, if any; can be the input of another run
spreadsheet.csv          if asked for: predictions.csv for people who open it in a spreadsheet
run.json                 written last: without it the run is not done
failed/                  the same of a run that failed, beside the last good result
"""

import logging
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from visionflows.errors import RunError
from visionflows.evaluation.thresholds import believed
from visionflows.hashing import HashingWriter
from visionflows.images.image_status import SCORED_STATUSES
from visionflows.inference.backend import Backend
from visionflows.models.artifact import Model
from visionflows.scoring.counts import RunCounter
from visionflows.scoring.duplicates import DuplicateFinder
from visionflows.scoring.exports.spreadsheet import SIGNATURE, as_text
from visionflows.scoring.job import Job
from visionflows.scoring.listing import Listing, Shard
from visionflows.scoring.parts import Whole, line, read_parts, rows_of
from visionflows.scoring.schema import (
    FAILED,
    BackendShare,
    DuplicateCounts,
    JobSettings,
    Plan,
    Review,
    RunResult,
    WrittenFile,
)
from visionflows.storage.base import Storage
from visionflows.versioned_json import SchemaError

log = logging.getLogger("visionflows.result")


class Extra(NamedTuple):
    """What a result may have beside the rows of its parts."""

    spreadsheet: bool = False
    alike: DuplicateFinder | None = None

    @property
    def counts(self) -> DuplicateCounts | None:
        """How many look-alikes there are, where they were looked for."""
        return self.alike.counts() if self.alike else None


def read_result(output: Storage, folder: str = "") -> RunResult | None:
    """What run.json says there; None where there is none, or it cannot be read."""
    try:
        return RunResult.read(output.read(f"{folder}run.json"))
    except FileNotFoundError:
        return None
    except (SchemaError, IsADirectoryError) as error:
        log.warning("%s/%srun.json: %s; it counts as none", output, folder, error)
        return None


def finished(output: Storage, plan: Plan) -> RunResult | None:
    """The result of the job of a plan, be it one that failed; None where it has not ended yet."""
    results = (read_result(output, folder) for folder in (FAILED, ""))
    old = plan.schema_version == 1  # whose run.json was taken away when the next run began
    return next((run for run in results if run and (run.job == plan.job or old)), None)


def tally(output: Storage, job: Job, listing: Listing) -> tuple[RunCounter, list[BackendShare]]:
    """The counts of all parts, and their backends. Raises RunError where one is missing."""
    counter, shares = RunCounter(), _Shares()
    for shard, whole in _parts(output, job, listing):
        counter.add_record(whole.record)
        shares.add(shard, whole)
    counts = counter.counts()
    if listing.found != counts.found:
        raise RunError(
            f"the books do not balance: {listing.found} files found, {counts.ok} ok, "
            f"{counts.rejected} rejected and {counts.failed} failed; nothing was "
            "published, please report this"
        )
    return counter, shares.told()


def extra(output: Storage, job: Job, listing: Listing, model: Model, spreadsheet: bool) -> Extra:
    """What a result is to have, with the look-alikes among all rows if there are columns of them.

    Raises RunError where a part is missing.
    """
    if not job.settings.find_duplicates:
        return Extra(spreadsheet)
    alike = DuplicateFinder(job.header, model)
    for _, whole in _parts(output, job, listing):
        alike.add(rows_of(whole.data), (mark.sha256 for mark in whole.marks))
    return Extra(spreadsheet, alike)


def join(
    output: Storage, job: Job, listing: Listing, counts: RunCounter, folder: str, extra: Extra
) -> dict[str, WrittenFile]:
    """Write predictions.csv, failures.csv and spreadsheet.csv into a folder; their digests.

    The last two if there are failures, and if it is asked for; else those of before go.

    Every part is checked on the way. Raises RunError where one is missing or changed since they
    were tallied; predictions.csv is then not replaced.
    """
    again = RunCounter()

    def rows() -> Iterator[bytes]:
        yield line(job.header)
        fill = extra.alike.filler() if extra.alike else None
        for _, whole in _parts(output, job, listing):
            again.add_record(whole.record)
            if fill:
                yield from (line(fill(row)) for row in rows_of(whole.data))
            else:
                yield whole.data[len(line(job.header)) :]
        if again.counts() != counts.counts():
            raise RunError(f"{output}/parts: changed while the run went on; run it again")

    files = {f"{folder}predictions.csv": _write(output, f"{folder}predictions.csv", rows())}
    what = output, job, listing
    others = {
        "failures.csv": map(line, _failures(*what)) if counts.failed else None,
        "spreadsheet.csv": _for_people(*what, extra.alike) if extra.spreadsheet else None,
    }
    for name, lines in others.items():
        if lines is None:
            output.remove(f"{folder}{name}")
        else:
            files[f"{folder}{name}"] = _write(output, f"{folder}{name}", lines)
    return files


def review_of(model: Model, settings: JobSettings) -> Review | None:
    """What run.json says of what is left to people, where `--min-precision` is wanted."""
    if settings.min_precision is None:
        return None
    found = believed(model, settings.min_precision, bool(settings.raw))
    return Review(
        min_precision=settings.min_precision,
        share_told=found.share,
        thresholds=dict(zip(model.classes, found.by_class, strict=True)),
        together=found.together,
    )


def folder_for(output: Storage, failed: bool) -> str:
    """Where a result goes: one that failed does not replace a good one, and stands beside it."""
    last = read_result(output) if failed else None
    return FAILED if last and last.status == "done" else ""


def finish(output: Storage, run: RunResult) -> None:
    """Write run.json, which says that everything before it is there."""
    output.write(f"{run.folder}run.json", run.text())
    if not run.folder:
        output.remove(FAILED.rstrip("/"))
    output.remove("previous")


def _write(output: Storage, name: str, lines: Iterable[bytes]) -> WrittenFile:
    with output.open_write(name) as target:
        file = HashingWriter(target)
        for some in lines:
            file.write(some)
    return WrittenFile(bytes=file.size, sha256=file.sha256)


def _parts(output: Storage, job: Job, listing: Listing) -> Iterator[tuple[Shard, Whole]]:
    """Every shard with its part, which is whole and of this job. Raises RunError."""
    parts, digests = read_parts(output, [shard.part for shard in listing.shards]), job.digests
    for shard, whole in zip(listing.shards, parts, strict=True):
        ours = whole and whole.record.job in digests and whole.record.shard == shard.names
        if whole is None or not ours:
            raise RunError(
                f"{output}/{shard.part}.csv: changed while the run went on; run it again"
            )
        yield shard, whole


def _failures(output: Storage, job: Job, listing: Listing) -> Iterator[list[str]]:
    """The header and rows of failures.csv: path, status and error of what failed."""
    yield ["path", "status", "error"]
    for _, whole in _parts(output, job, listing):
        if whole.record.counts.failed:
            for row in rows_of(whole.data):
                if row[1] not in SCORED_STATUSES:
                    yield [row[0], row[1], row[4]]


def _for_people(
    output: Storage, job: Job, listing: Listing, alike: DuplicateFinder | None
) -> Iterator[bytes]:
    """The lines of spreadsheet.csv: all rows, no cell of which is a formula."""
    yield SIGNATURE + line(map(as_text, job.header))
    fill = alike.filler() if alike else list
    for _, whole in _parts(output, job, listing):
        for row in rows_of(whole.data):
            yield line(map(as_text, fill(row)))


class _Shares:
    """What computed how many files, and in which parts."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Backend, list[int], list[int]]] = {}

    def add(self, shard: Shard, whole: Whole) -> None:
        for at, backend in enumerate(whole.record.backends):
            _, counts, parts = self._found.setdefault(backend.description, (backend, [], []))
            counts.append(sum(mark.by == at for mark in whole.marks))
            parts.append(shard.index)

    def told(self) -> list[BackendShare]:
        return [
            BackendShare(**backend.model_dump(), files=sum(counts), parts=_ranges(parts))
            for backend, counts, parts in self._found.values()
        ]


def _ranges(numbers: list[int]) -> str:
    """Rising numbers in words: `0-3, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)
