"""Which shards of a run still need scoring, and whether the run may write into an output."""

import itertools
import posixpath
from collections.abc import Iterator

from visionflows.errors import OtherRunError
from visionflows.scoring import parts
from visionflows.scoring.job import Job
from visionflows.scoring.listing import Shard
from visionflows.scoring.result import finished_result, read_plan, read_result
from visionflows.scoring.schema import FAILED
from visionflows.scoring.settings import ScoreSettings
from visionflows.scoring.work_list import WorkList
from visionflows.storage import location_text
from visionflows.storage.base import Storage

# Prefix of a file in `parts` while a run on a cluster owns the output: without it no actor writes.
RUN_MARKER = "run-"  # no leading dot, because `Storage.names` leaves out hidden files


def has_rows(output: Storage) -> bool:
    """Whether an earlier run into the output found files."""
    plan = read_plan(output)
    results = (read_result(output, folder) for folder in ("", FAILED))
    return bool(plan and (plan.files or not plan.listing)) or any(
        run and run.counts.found for run in results
    )


class PendingShards:
    """The shards without a valid part, as they are listed. Can be iterated again."""

    def __init__(self, output: Storage, work: WorkList):
        self._output, self._work, self._names = output, work, {*output.names("parts")}
        plan = read_plan(output)
        self._retries = plan is not None and finished_result(output, plan) is not None
        self._valid: dict[int, bool] = {}  # by index; a part that this run writes is not counted
        self.done = 0  # files in valid parts, without reused rows

    def __iter__(self) -> Iterator[Shard]:
        listing = self._work.listing
        for index in itertools.count():
            if (shard := listing.shard(index)) is None:
                return
            if index not in self._valid:
                # Check many parts at once if possible: reading from a bucket takes time.
                self._check(listing.shards[index:] if listing.is_complete else [shard])
            if not self._valid[index]:
                yield shard

    def _check(self, shards: list[Shard]) -> None:
        existing = [shard for shard in shards if f"{shard.part[6:]}.json" in self._names]
        self._valid |= {shard.index: False for shard in shards}
        found = parts.read_parts(self._output, [shard.part for shard in existing])
        for shard, part in zip(existing, found, strict=True):
            if part is not None and self._is_valid(part, shard):
                self._valid[shard.index] = True
                files = self._work.listing.files(shard)
                self.done += sum(file.reused is None for file in files)

    def _is_valid(self, part: parts.Part, shard: Shard) -> bool:
        """Whether a part is the shard's. After a finished run, its failures are scored again."""
        work, record = self._work, part.record
        same = record.job == work.job.row_digest and record.shard == shard.names
        if not same or not parts.belongs_to(part, work.job):
            return False
        files = work.listing.files(shard)
        if work.settings.retry_failed and any(file.reused is None for file in files):
            return False
        if self._retries and not parts.has_no_failure_to_retry(part, files, work.backends[0]):
            return False
        return parts.is_up_to_date(part, files, work.source.storage)


def prepare_output(output: Storage, work: WorkList) -> PendingShards:
    """Write the plan, and return the shards to score. Raises OtherRunError as `check_output`."""
    plan, job, settings = read_plan(output), work.job, work.settings
    check_output(output, job, plan, settings)
    # A run that died while it listed may have left parts that overlap those of an earlier listing.
    unlisted = settings.only_new and plan and not plan.listing
    if plan and (unlisted or not job.continues(plan)):
        _clear_parts(output, settings)
    elif settings.restart:
        output.remove("parts")
    for name in output.names("parts"):
        if name.startswith(RUN_MARKER):
            output.remove(f"parts/{name}")
    pending = PendingShards(output, work)
    write_plan(output, work)
    return pending


def write_plan(output: Storage, work: WorkList) -> None:
    """Write the plan; when all files are listed, also remove the parts beyond them.

    A run that was killed while it listed more files may have left such parts.
    """
    for name in output.names("parts") if work.listing.is_complete else ():
        number = name.removeprefix("part-").partition(".")[0]
        if number.isdecimal() and int(number) >= len(work.listing.shards):
            output.remove(f"parts/{name}")
    output.write("parts/plan.json", work.job.plan())


def can_score_early(output: Storage, job: Job, settings: ScoreSettings) -> bool:
    """Whether shards may be scored before all files are listed: no plan has to be compared."""
    if settings.only_new or settings.retry_failed or settings.restart or settings.replace:
        return False
    plan = read_plan(output)
    return plan is None or job.continues(plan)


def check_output(output: Storage, job: Job, plan: Job | None, settings: ScoreSettings) -> None:
    """Raise OtherRunError if the job must not write into the output, whose plan is `plan`."""
    if not settings.replace:
        _check_input(output, job, plan)
    if plan is None or job.continues(plan) or finished_result(output, plan):
        return
    if not (settings.restart or settings.only_new or settings.replace):
        raise OtherRunError(
            f"{output}: holds an unfinished run of another job ({job.describe_difference(plan)}); "
            "finish that run, give another output, or use --restart to discard it"
        )


def _check_input(output: Storage, job: Job, plan: Job | None) -> None:
    """Raise OtherRunError if the output holds the result of another input, or an unknown one."""
    result = read_result(output) or read_result(output, FAILED)
    if result and result.input != job.input:
        raise OtherRunError(
            f"{output}: holds the result of {result.input}, not of {job.input}; "
            f"{_fitting_advice(output, job.input, result.input)}"
        )
    if not (result or plan) and output.exists("predictions.csv"):
        raise OtherRunError(
            f"{output}: holds a predictions.csv without a run.json; give another output, or use "
            "--replace to replace it"
        )


def _fitting_advice(output: Storage, given: str, scored: str) -> str:
    """What to do about an input that is not the one that was scored."""
    if given.startswith(f"{location_text(output).rstrip('/')}/"):  # its failures.csv
        return "name that input with --retry-failed to score its failed files again"
    if posixpath.basename(given) == posixpath.basename(scored):
        return (
            "if it is the same under another path, use --replace --only-new to keep its rows, else "
            "give another output"
        )
    return "give another output, or use --replace to replace it"


def _clear_parts(output: Storage, settings: ScoreSettings) -> None:
    """Remove the parts of another job, or move them aside if their rows are reused."""
    if settings.restart or not (settings.only_new or settings.retry_failed):
        output.remove("parts")
        output.remove("previous")
    elif output.exists("parts"):
        numbers = [int(name) for name in output.names("previous") if name.isdecimal()]
        output.rename("parts", f"previous/{max(numbers, default=0) + 1:06d}")
