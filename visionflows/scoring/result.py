"""The result of a run: predictions.csv and failures.csv joined from the parts, and run.json."""

import hashlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from visionflows.errors import RunError
from visionflows.escaping import escape_formula
from visionflows.evaluation.thresholds import model_thresholds
from visionflows.images.image_status import SCORED_STATUSES
from visionflows.inference.engine import Backend
from visionflows.models.artifact import Model
from visionflows.scoring import schema
from visionflows.scoring.columns import csv_line, csv_rows
from visionflows.scoring.counts import RunCounter
from visionflows.scoring.duplicates import DuplicateFinder
from visionflows.scoring.job import Job
from visionflows.scoring.listing import Listing, Shard
from visionflows.scoring.parts import Part, read_parts
from visionflows.storage import location_text
from visionflows.storage.base import Storage

log = logging.getLogger("visionflows.scoring")

Content = TypeVar("Content")


def read_if_valid(output: Storage, name: str, parse: Callable[[bytes], Content]) -> Content | None:
    """The content of a file in an output; None if there is none, or (logged) an invalid one."""
    try:
        return parse(output.read(name))
    except FileNotFoundError:
        return None
    except (ValueError, IsADirectoryError) as error:
        log.warning("%s/%s: %s; it is ignored", output, name, error)
        return None


def read_result(output: Storage, folder: str = "") -> schema.RunResult | None:
    """The content of run.json; None if there is none, or it cannot be read."""
    return read_if_valid(output, f"{folder}run.json", schema.RunResult.read)


def read_plan(output: Storage, folder: str = "parts") -> Job | None:
    """The job that fills a folder; None if there is no plan, or an invalid one."""
    return read_if_valid(output, f"{folder}/plan.json", Job.read)


def finished_result(output: Storage, job: Job) -> schema.RunResult | None:
    """The result of a job, also of a failed run; None if the job has not finished."""
    results = (read_result(output, folder) for folder in (schema.FAILED, ""))
    return next((run for run in results if run and run.job == job.digest), None)


class Merge:
    """Joins the parts of a job into the files of a result."""

    def __init__(self, output: Storage, job: Job, listing: Listing, model: Model):
        self.output, self.job, self.listing, self.counter = output, job, listing, RunCounter()
        duplicates = job.settings.find_duplicates
        self.duplicates = DuplicateFinder(job.header, model) if duplicates else None
        self.backends: list[schema.BackendShare] = []

    def count(self) -> schema.Counts:
        """Read all parts, and return their counts. Raises RunError if a file has no row."""
        found: dict[str, tuple[Backend, list[int], list[int]]] = {}
        for shard, part in self._parts():
            self.counter.add_record(part.record)
            if self.duplicates:
                self.duplicates.add(csv_rows(part.data), (file.sha256 for file in part.files))
            for index, backend in enumerate(part.record.backends):
                _, counts, parts = found.setdefault(backend.description, (backend, [], []))
                counts.append(sum(file.backend == index for file in part.files))
                parts.append(shard.index)
        self.backends = [
            schema.BackendShare(
                **backend.model_dump(), files=sum(counts), parts=_format_ranges(parts)
            )
            for backend, counts, parts in found.values()
        ]
        return self._checked_counts()

    def _checked_counts(self) -> schema.Counts:
        counts = self.counter.counts()
        if self.listing.found != counts.found:
            raise RunError(
                f"the counts do not account for every file: {self.listing.found} files found, "
                f"{counts.ok} ok, {counts.rejected} rejected and {counts.failed} failed; "
                "nothing was published, please report this"
            )
        return counts

    def write(self, folder: str, spreadsheet: bool) -> dict[str, schema.WrittenFile]:
        """Write the files and remove those no longer due. Raises RunError if a part changed."""
        contents = {
            "predictions.csv": self._predictions(),
            "failures.csv": self._failures() if self.counter.counts().failed else None,
            "spreadsheet.csv": self._spreadsheet() if spreadsheet else None,
        }
        files = {}
        for name, lines in contents.items():
            if lines is None:
                self.output.remove(f"{folder}{name}")
            else:
                files[f"{folder}{name}"] = _write(self.output, f"{folder}{name}", lines)
        return files

    def _predictions(self) -> Iterator[bytes]:
        again, header = RunCounter(), csv_line(self.job.header)
        yield header
        fill = self.duplicates.filler() if self.duplicates else None
        for _, part in self._parts():
            again.add_record(part.record)
            if fill:
                yield from (csv_line(fill(row)) for row in csv_rows(part.data))
            else:
                yield part.data[len(header) :]
        if again.counts() != self.counter.counts():
            raise self._changed("parts")

    def _failures(self) -> Iterator[bytes]:
        yield csv_line(["path", "status", "error"])
        for _, part in self._parts():
            if part.record.counts.failed:
                for path, status, _, _, error, *_ in csv_rows(part.data):
                    if status not in SCORED_STATUSES:
                        yield csv_line(map(escape_formula, (path, status, error)))

    def _spreadsheet(self) -> Iterator[bytes]:
        """The same rows; no cell, such as `=HYPERLINK(…).png`, is a formula."""
        # Without the byte order mark, Excel assumes the encoding of its country.
        yield "\ufeff".encode() + csv_line(map(escape_formula, self.job.header))
        fill = self.duplicates.filler() if self.duplicates else list
        for _, part in self._parts():
            yield from (csv_line(map(escape_formula, fill(row))) for row in csv_rows(part.data))

    def _parts(self) -> Iterator[tuple[Shard, Part]]:
        shards, digest = self.listing.shards, self.job.row_digest
        parts = read_parts(self.output, [shard.part for shard in shards])
        for shard, part in zip(shards, parts, strict=True):
            if not part or part.record.job != digest or part.record.shard != shard.names:
                raise self._changed(f"{shard.part}.csv")
            yield shard, part

    def _changed(self, name: str) -> RunError:
        return RunError(f"{self.output}/{name}: changed during the run; run it again")


def describe_model(model: Model) -> schema.RunModel:
    """A model as run.json names it."""
    names = {"name", "version", "architecture", "image_size"}
    names |= {"multi_label"} if model.info.multi_label else set()
    same = model.info.model_dump(include=names)
    return schema.RunModel(
        **same,
        classes=model.classes,
        digest=model.digest,
        storage=location_text(model.storage, absolute=False),
    )


def describe_review(model: Model, settings: schema.JobSettings) -> schema.Review | None:
    """Which rows people should review; None without --min-precision."""
    if settings.min_precision is None:
        return None
    found = model_thresholds(model, settings.min_precision, bool(settings.raw))
    return schema.Review(
        min_precision=settings.min_precision,
        expected_share=found.share,
        thresholds=dict(zip(model.classes, found.by_class, strict=True)),
        shared_threshold=found.together,
    )


def result_folder(output: Storage, failed: bool) -> str:
    """The folder for a result; a failed result does not replace a good one."""
    last = read_result(output) if failed else None
    return schema.FAILED if last and last.status == "done" else ""


def write_run_json(output: Storage, run: schema.RunResult) -> None:
    """Write run.json, and remove what the result replaces."""
    output.write(f"{run.folder}run.json", run.text())
    if not run.folder:
        output.remove(schema.FAILED.rstrip("/"))
    output.remove("previous")


def _write(output: Storage, name: str, lines: Iterable[bytes]) -> schema.WrittenFile:
    digest, size = hashlib.sha256(), 0
    with output.open_write(name) as target:
        for data in lines:
            target.write(data)
            digest.update(data)
            size += len(data)
    return schema.WrittenFile(bytes=size, sha256=digest.hexdigest())


def _format_ranges(numbers: list[int]) -> str:
    """Rising numbers as ranges: `0-3, 7`."""
    groups = itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ranges = [[number for _, number in group] for _, group in groups]
    return ", ".join(f"{one[0]}-{one[-1]}" if one[1:] else f"{one[0]}" for one in ranges)
