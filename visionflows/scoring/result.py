"""The result of a run: predictions.csv joined from the parts, and run.json.

predictions.csv          the rows of all parts
failures.csv             the rows that failed, if any; can be the input of another run
spreadsheet.csv          if asked for: scoring.exports.spreadsheet
run.json                 written last: without it the run is not done
failed/                  the same files of a failed run, beside the last good result
"""

import logging
from collections.abc import Iterable, Iterator

from visionflows.errors import RunError
from visionflows.evaluation.thresholds import model_thresholds
from visionflows.hashing import HashingWriter
from visionflows.images.image_status import SCORED_STATUSES
from visionflows.inference.backend import Backend
from visionflows.models.artifact import Model
from visionflows.scoring.columns import csv_line, csv_rows
from visionflows.scoring.counts import RunCounter
from visionflows.scoring.duplicates import DuplicateFinder
from visionflows.scoring.exports.spreadsheet import spreadsheet_lines
from visionflows.scoring.job import Job
from visionflows.scoring.listing import Listing, Shard
from visionflows.scoring.parts import Part, read_parts
from visionflows.scoring.schema import (
    FAILED,
    BackendShare,
    JobSettings,
    Review,
    RunModel,
    RunResult,
    WrittenFile,
)
from visionflows.storage.base import Storage
from visionflows.versioned_json import SchemaError

log = logging.getLogger("visionflows.scoring")


def read_result(output: Storage, folder: str = "") -> RunResult | None:
    """The content of run.json; None if there is none, or it cannot be read."""
    try:
        return RunResult.read(output.read(f"{folder}run.json"))
    except FileNotFoundError:
        return None
    except (SchemaError, IsADirectoryError) as error:
        log.warning("%s/%srun.json: %s; it is ignored", output, folder, error)
        return None


def finished_result(output: Storage, job: Job) -> RunResult | None:
    """The result of a job, also of a failed run; None if the job has not finished."""
    results = (read_result(output, folder) for folder in (FAILED, ""))
    return next((run for run in results if run and run.job == job.digest), None)


class Merge:
    """Joins the parts of a job into the files of a result."""

    def __init__(self, output: Storage, job: Job, listing: Listing):
        self.output, self.job, self.listing = output, job, listing
        self.duplicates: DuplicateFinder | None = None

    def count(self) -> tuple[RunCounter, list[BackendShare]]:
        """The counts of all parts, and their backends. Raises RunError if a part is missing."""
        counter = RunCounter()
        found: dict[str, tuple[Backend, list[int], list[int]]] = {}
        for shard, part in self._parts():
            counter.add_record(part.record)
            for index, backend in enumerate(part.record.backends):
                _, counts, parts = found.setdefault(backend.description, (backend, [], []))
                counts.append(sum(file.backend == index for file in part.files))
                parts.append(shard.index)
        if self.listing.found != counter.counts().found:
            raise counter.mismatch(self.listing.found)
        return counter, [
            BackendShare(**backend.model_dump(), files=sum(counts), parts=_format_ranges(parts))
            for backend, counts, parts in found.values()
        ]

    def find_duplicates(self, model: Model) -> None:
        """Find the duplicates among all rows, if the job has columns of them."""
        if self.job.settings.find_duplicates:
            self.duplicates = DuplicateFinder(self.job.header, model)
            for _, part in self._parts():
                self.duplicates.add(csv_rows(part.data), (file.sha256 for file in part.files))

    def write(self, folder: str, counter: RunCounter, spreadsheet: bool) -> dict[str, WrittenFile]:
        """Write predictions.csv, failures.csv and spreadsheet.csv; returns size and digest of each.

        failures.csv is written if a file failed, spreadsheet.csv if asked for; else older ones are
        removed. Raises RunError if a part changed since `count`; predictions.csv stays then.
        """
        contents = {
            "predictions.csv": self._predictions(counter),
            "failures.csv": self._failures() if counter.failed else None,
            "spreadsheet.csv": (
                spreadsheet_lines(self.job.header, self._rows()) if spreadsheet else None
            ),
        }
        files = {}
        for name, lines in contents.items():
            if lines is None:
                self.output.remove(f"{folder}{name}")
            else:
                files[f"{folder}{name}"] = _write(self.output, f"{folder}{name}", lines)
        return files

    def _predictions(self, counter: RunCounter) -> Iterator[bytes]:
        again, header = RunCounter(), csv_line(self.job.header)
        yield header
        fill = self.duplicates.filler() if self.duplicates else None
        for _, part in self._parts():
            again.add_record(part.record)
            if fill:
                yield from (csv_line(fill(row)) for row in csv_rows(part.data))
            else:
                yield part.data[len(header) :]
        if again.counts() != counter.counts():
            raise self._changed("parts")

    def _failures(self) -> Iterator[bytes]:
        """The lines of failures.csv: path, status and error of the files that failed."""
        yield csv_line(["path", "status", "error"])
        for _, part in self._parts():
            if part.record.counts.failed:
                for path, status, _, _, error, *_ in csv_rows(part.data):
                    if status not in SCORED_STATUSES:
                        yield csv_line([path, status, error])

    def _rows(self) -> Iterator[list[str]]:
        fill = self.duplicates.filler() if self.duplicates else list
        for _, part in self._parts():
            yield from map(fill, csv_rows(part.data))

    def _parts(self) -> Iterator[tuple[Shard, Part]]:
        """Every shard with its part. Raises RunError if one is missing or of another job."""
        shards, digest = self.listing.shards, self.job.row_digest
        parts = read_parts(self.output, [shard.part for shard in shards])
        for shard, part in zip(shards, parts, strict=True):
            if not part or part.record.job != digest or part.record.shard != shard.names:
                raise self._changed(f"{shard.part}.csv")
            yield shard, part

    def _changed(self, name: str) -> RunError:
        return RunError(f"{self.output}/{name}: changed during the run; run it again")


def describe_model(model: Model) -> RunModel:
    """A model as run.json names it."""
    return RunModel(
        name=model.info.name,
        version=model.info.version,
        architecture=model.info.architecture,
        classes=model.classes,
        image_size=model.info.image_size,
        digest=model.digest,
        storage=str(model.storage),
    )


def describe_review(model: Model, settings: JobSettings) -> Review | None:
    """Which rows people should review; None without --min-precision."""
    if settings.min_precision is None:
        return None
    found = model_thresholds(model, settings.min_precision, bool(settings.raw))
    return Review(
        min_precision=settings.min_precision,
        expected_share=found.share,
        thresholds=dict(zip(model.classes, found.by_class, strict=True)),
        shared_threshold=found.together,
    )


def result_folder(output: Storage, failed: bool) -> str:
    """The folder for a result; a failed result does not replace a good one."""
    last = read_result(output) if failed else None
    return FAILED if last and last.status == "done" else ""


def write_run_json(output: Storage, run: RunResult) -> None:
    """Write run.json, and remove what the result replaces."""
    output.write(f"{run.folder}run.json", run.text())
    if not run.folder:
        output.remove(FAILED.rstrip("/"))
    output.remove("previous")


def _write(output: Storage, name: str, lines: Iterable[bytes]) -> WrittenFile:
    with output.open_write(name) as target:
        file = HashingWriter(target)
        for data in lines:
            file.write(data)
    return WrittenFile(bytes=file.size, sha256=file.sha256)


def _format_ranges(numbers: list[int]) -> str:
    """Rising numbers as ranges: `0-3, 7`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ", ".join("-".join(map(str, one)) for one in ranges)
