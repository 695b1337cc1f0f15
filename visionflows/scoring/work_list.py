"""What a run has before it: the files of its input, and the rows that it has of them already.

    found = begin_inventory(source, place("out"), job, [computed], settings)
    found.listing                                    # which grows
    found.end().job

The rows are those that --only-new takes over, or, with --retry-failed, all that have a label.
"""

import csv
import dataclasses
import io
from collections.abc import Iterator

from visionflows.errors import OtherRunError, RunError, StorageError
from visionflows.hashing import sha256_of_file
from visionflows.images.formats import ImageFilter
from visionflows.images.near_duplicates import BYTES
from visionflows.inference.backend import Backend
from visionflows.scoring.input_source import Source, same_input
from visionflows.scoring.job import Job
from visionflows.scoring.listing import File, Listing, outside
from visionflows.scoring.result import finished, read_result
from visionflows.scoring.reusable_rows import ReusableRows
from visionflows.scoring.schema import RunResult
from visionflows.scoring.settings import ScoreSettings
from visionflows.scoring.shards import begun
from visionflows.storage.base import LISTED, Entry, Storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name

# What the rows may take, twice: as parts, and joined. Generous for paths of 100 characters.
BYTES_A_ROW, BYTES_A_PROBABILITY = 200, 9


@dataclasses.dataclass
class WorkList:
    """The listing, the job it makes, the rows of before; and how many files are no pictures.

    Until `end`, the job is one of no files, and nothing is counted.
    """

    source: Source
    listing: Listing
    job: Job
    earlier: ReusableRows | None = None
    pictures: ImageFilter | None = None
    ignored: int = 0
    ignored_by_ending: dict[str, int] = dataclasses.field(default_factory=dict)

    def end(self) -> "WorkList":
        """Itself, once all is listed. Raises what listing raised, and RunError."""
        listing = self.listing.wait()
        self.source.check()
        if self.earlier:
            self.earlier.end()
        if self.pictures:
            self.ignored = self.pictures.others.total()
            self.ignored_by_ending = self.pictures.by_ending()
        self.job = dataclasses.replace(self.job, listing=listing.digest, files=listing.found)
        return self


def start_work_list(
    source: Source,
    output: Storage,
    job: Job,
    backends: list[Backend],
    settings: ScoreSettings,
    sort: bool = True,
) -> WorkList:
    """What there is to score; `job` is one of no files yet. Raises PlaceError, RunError.

    Without `sort` the files are taken as they come; see `Listing.unsorted`.
    """
    if settings.retry_failed or source.is_list:  # else listing it says so
        source.there()
    if settings.retry_failed:
        return _to_retry(source, output, job, backends)
    earlier = ReusableRows(output, source.storage, job, backends) if settings.only_new else None
    listing = Listing(settings.shard_size)
    pictures, entries = ImageFilter(source.storage.head), source.entries(sort, listing.goes_on)
    if not source.is_list:
        entries = outside(entries, inside(source.storage, output))
        entries = (entry for entry in entries if pictures(entry.name))
    listing.fill(map(earlier.file if earlier else File, entries), sort)
    return WorkList(source, listing, job, earlier, pictures)


def inside(source: Storage, output: Storage) -> str | None:
    """Where the output lies inside the input, if it does."""
    if not (isinstance(source, LocalStorage) and isinstance(output, LocalStorage)):
        folder, there = f"{source}".rstrip("/") + "/", f"{output}".rstrip("/")
        return there.removeprefix(folder) if there.startswith(folder) else None
    root, below = source.root.resolve(), output.root.resolve()
    if root != below and below.is_relative_to(root):
        return below.relative_to(root).as_posix()
    return None


def check_room(
    output: Storage, files: int, classes: int, shard_size: int, find_duplicates: bool = False
) -> None:
    """Nothing, if the disk has room for the rows of so many files, of which some have their parts.

    Raises PlaceError.
    """
    free = output.free_bytes()
    if free is None:
        return
    row = BYTES_A_ROW + BYTES_A_PROBABILITY * classes + (2 * BYTES if find_duplicates else 0)
    parts = sum(
        name.startswith("part-") and name.endswith(".csv") for name in output.names("parts")
    )
    need = row * (2 * files - min(parts * shard_size, files)) + (20 << 20)
    if free < need:
        raise StorageError(
            f"{output}: {free >> 20} MB free, the result may need {need >> 20} MB; "
            "free some space or name another output"
        )


def _to_retry(source: Source, output: Storage, job: Job, backends: list[Backend]) -> WorkList:
    """The files of the result that lies in the output, with the rows of those that have a label."""
    result = _result_to_retry(output, job)
    job = dataclasses.replace(job, settings=result.settings)
    earlier = ReusableRows(output, source.storage, job, backends)
    files = (earlier.as_it_was(Entry(name, 0, LISTED)) for name in _names(output, result))
    listing, counts = Listing(result.settings.shard_size), result.counts
    listing.fill(files, sorted_=True)
    no_pictures = counts.ignored, counts.ignored_by_ending
    return WorkList(source, listing, job, None, None, *no_pictures)


def _result_to_retry(output: Storage, job: Job) -> RunResult:
    """The last result, if it is one of this job's input, model and settings. Raises RunError."""
    plan = begun(output)
    result = (plan and finished(output, plan)) or read_result(output)
    if result is None:
        raise RunError(f"{output}: holds no result to retry; run it without --retry-failed")
    if not same_input(result.input, job.input):
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


def _names(output: Storage, result: RunResult) -> Iterator[str]:
    """The files of a result, in order, by its predictions.csv. Raises RunError if that changed."""
    name = f"{result.folder}predictions.csv"
    written = result.files.get(name)
    try:
        with output.open_read(name) as file:
            same = written is not None and sha256_of_file(file) == written.sha256
    except FileNotFoundError:
        same = False
    if not same:
        raise RunError(
            f"{output}/{name}: missing, or changed since it was written; run it without "
            "--retry-failed"
        )
    with output.open_read(name) as file:
        for row in csv.DictReader(io.TextIOWrapper(file, "utf-8", newline="")):
            yield decode_name(row["path"])
