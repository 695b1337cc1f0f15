"""The work of a run: the files of its input, beside the rows it can reuse."""

import csv
import dataclasses
import io
from collections.abc import Iterator

from visionflows.errors import OtherRunError, RunError
from visionflows.hashing import sha256_of_file
from visionflows.images.formats import ImageFilter
from visionflows.inference.engine import Backend
from visionflows.scoring.input_source import Source
from visionflows.scoring.job import Job
from visionflows.scoring.listing import File, Listing
from visionflows.scoring.result import finished_result, read_plan, read_result
from visionflows.scoring.reusable_rows import ReusableRows
from visionflows.scoring.schema import RunResult
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage.base import LISTED, Entry, Storage
from visionflows.storage.name_encoding import decode_name


@dataclasses.dataclass
class WorkList:
    """The listing of a run; until `finish`, its job has no files and nothing is counted."""

    source: Source
    listing: Listing
    job: Job
    backends: list[Backend]  # this run's, and then those of reused rows
    settings: ScoreSettings
    reusable: ReusableRows | None = None
    images: ImageFilter | None = None
    ignored: int = 0
    ignored_by_ending: dict[str, int] = dataclasses.field(default_factory=dict)

    def finish(self) -> "WorkList":
        """Wait until all files are listed. Raises the error of listing, and RunError."""
        listing = self.listing.wait()
        self.source.check_unchanged()
        if self.images:
            self.ignored = self.images.others.total()
            self.ignored_by_ending = self.images.by_extension()
        files = {"listing": listing.digest, "files": listing.found}
        self.job = self.job.model_copy(update=files)
        return self


def start_work_list(
    source: Source, output: Storage, job: Job, backends: list[Backend], settings: ScoreSettings
) -> WorkList:
    """Start listing the files to score; `job` has no files yet. Raises StorageError, RunError."""
    if settings.retry_failed or source.is_list:  # a walk of a folder checks that it exists
        source.check_exists()
    if settings.retry_failed:
        return _start_retry(source, output, job, backends, settings)
    reusable = ReusableRows(output, source.storage, job, backends) if settings.only_new else None
    listing = Listing(settings.shard_size)
    images, entries = ImageFilter(source.storage.heads), listing.until_closed(source.entries())
    if not source.is_list:
        entries = images(entries)
    listing.start(reusable.find(entries) if reusable else map(File, entries))
    return WorkList(source, listing, job, backends, settings, reusable, images)


def _start_retry(
    source: Source, output: Storage, job: Job, backends: list[Backend], settings: ScoreSettings
) -> WorkList:
    """The files of the result in the output, with the rows of those that were scored."""
    result = _result_to_retry(output, job)
    job = job.model_copy(update={"settings": result.settings})
    reusable = ReusableRows(output, source.storage, job, backends)
    listing, counts = Listing(result.settings.shard_size), result.counts
    names = listing.until_closed(_result_names(output, result))
    listing.start(reusable.find_to_retry(Entry(name, 0, LISTED) for name in names))
    work = WorkList(source, listing, job, backends, settings)
    work.ignored, work.ignored_by_ending = counts.ignored, counts.ignored_by_ending
    return work


def _result_to_retry(output: Storage, job: Job) -> RunResult:
    """The last result, which must have this job's input, model and settings. Raises RunError."""
    plan = read_plan(output)
    result = (plan and finished_result(output, plan)) or read_result(output)
    if result is None:
        raise RunError(f"{output}: holds no result to retry; run it without --retry-failed")
    if result.input != job.input:
        raise OtherRunError(
            f"{output}: holds the result of {result.input}, not of {job.input}; name that input"
        )
    if result.model.digest != job.model:
        raise OtherRunError(
            f"{output}: was scored with {result.model.name}@{result.model.version}; name that "
            "model, or run it without --retry-failed"
        )
    for name, value in job.settings:
        if name != "shard_size" and getattr(result.settings, name) != value:
            raise OtherRunError(
                f"{output}: was scored with {name} {getattr(result.settings, name)}, not {value}; "
                "give the same settings, or run it without --retry-failed"
            )
    return result


def _result_names(output: Storage, result: RunResult) -> Iterator[str]:
    """The names in a result's predictions.csv, in order. Raises RunError if the file changed."""
    name = f"{result.folder}predictions.csv"
    written = result.files.get(name)
    try:
        with output.open_read(name) as file:
            unchanged = written is not None and sha256_of_file(file) == written.sha256
    except FileNotFoundError:
        unchanged = False
    if not unchanged:
        raise RunError(
            f"{output}/{name}: missing, or changed since it was written; run it without "
            "--retry-failed"
        )
    with output.open_read(name) as file:
        for row in csv.DictReader(io.TextIOWrapper(file, "utf-8", newline="")):
            yield decode_name(row["path"])
