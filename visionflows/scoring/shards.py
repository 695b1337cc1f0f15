"""What is done and what is left of a scoring run, and whether it may be begun in a place at all.

    left = open_run(place("out"), Work(job, listing, source, computed, settings))
    for shard in left: write_part(place("out"), job, shard, files, rows, backends)

    parts/plan.json          the job this place is being filled for; its files at the end of listing
    previous/<n>/            parts of earlier runs, while --only-new takes rows over from them

A part counts as done when it is whole, its record names this very job, and its files are what they
were. So a run that was killed at any moment goes on with what is left, also one that was killed
before all was listed: a shard whose names have changed since is another, and is scored again.
"""

import dataclasses
import itertools
import logging
from collections.abc import Iterator

from visionflows.errors import OtherRunError
from visionflows.inference.backend import Backend
from visionflows.scoring.input_source import same_input
from visionflows.scoring.job import Job, is_consistent
from visionflows.scoring.listing import Listing, Shard
from visionflows.scoring.parts import Whole, is_of, may_stay, read_parts, still_holds
from visionflows.scoring.result import finished, read_result
from visionflows.scoring.schema import FAILED, Plan
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage.base import Storage
from visionflows.versioned_json import SchemaError

log = logging.getLogger("visionflows.shards")

PLAN = "parts/plan.json"
# A file in `parts` for as long as a run on a cluster has its output: without it, no actor writes.
# Without a dot, as `names` leaves out what has one.
MARK = "run-"


def begun(output: Storage, folder: str = "parts") -> Plan | None:
    """The plan this place is being filled for, or was; None where that cannot be read."""
    try:
        plan = Plan.read(output.read(f"{folder}/plan.json"))
        if is_consistent(plan):
            return plan
        why = "its digest is not that of what it says"
    except FileNotFoundError:
        return None
    except (SchemaError, IsADirectoryError) as error:
        why = str(error)
    log.warning("%s/%s/plan.json: %s; it counts as none", output, folder, why)
    return None


def has_rows(output: Storage) -> bool:
    """Whether a run into this output has found files before."""
    plan = begun(output)
    results = (read_result(output, folder) for folder in ("", FAILED))
    return bool(plan and (plan.files or not plan.listing)) or any(
        run and run.counts.found for run in results
    )


@dataclasses.dataclass(frozen=True)
class Work:
    """What a run does and with what: its job, its files, where they are read, what computes."""

    job: Job
    listing: Listing
    source: Storage
    by: Backend
    settings: ScoreSettings


class PendingShards:
    """The shards without a part that holds, as they are listed; an iterator begins with the first.

    `held` counts the files, of those that have no row from an earlier run, in shards whose part
    does hold, so far.
    """

    def __init__(self, output: Storage, work: Work, there: list[str]):
        self._work = work
        self._shards: list[Shard] = []
        self._looked = self.held = 0
        self._holding = _Holding(output, work, there)

    def __iter__(self) -> Iterator[Shard]:
        for index in itertools.count():
            shard = self._at(index)
            if shard is None:
                return
            yield shard

    def _at(self, index: int) -> Shard | None:
        while len(self._shards) <= index:
            shard = self._work.listing.at(self._looked)
            if shard is None:
                return None
            self._looked += 1
            if self._holding(shard):
                files = self._work.listing.files(shard)
                self.held += sum(file.kept is None for file in files)
            else:
                self._shards.append(shard)
        return self._shards[index]


def open_run(output: Storage, work: Work) -> PendingShards:
    """The shards that are left to do, after writing down what this place is being filled for.

    The parts of another job are removed, or set aside where rows are taken over from them. Raises
    OtherRunError where the result of another input, or an unfinished run of another job, lies
    there and nothing says that it may go. The last result stays until the new one is whole.
    """
    plan, job, settings = begun(output), work.job, work.settings
    check_meant(output, job, plan, settings)
    # What lay there while it was listed may be of several listings, which overlap.
    unlisted = settings.only_new and plan and not plan.listing
    if plan and (unlisted or not job.is_of(plan)):
        _make_way(
            output, set_aside=not settings.restart and (settings.only_new or settings.retry_failed)
        )
    elif settings.restart:
        output.remove("parts")
    there = output.names("parts")
    for name in there:
        if name.startswith(MARK):
            output.remove(f"parts/{name}")
    left = PendingShards(output, work, there)
    if plan and not plan.listing:
        _drop_strays(output, work.listing, there)
    output.write(PLAN, job.as_plan().text())
    return left


def settle(output: Storage, work: Work) -> None:
    """Write down what this place is being filled for, now that all is listed."""
    _drop_strays(output, work.listing, output.names("parts"))
    output.write(PLAN, work.job.as_plan().text())


def _drop_strays(output: Storage, listing: Listing, there: list[str]) -> None:
    """Remove parts beyond the listing: a run that was killed while it listed had more names."""
    for name in there if listing.whole else ():
        number = name.removeprefix("part-").partition(".")[0]
        if number.isdecimal() and int(number) >= len(listing.shards):
            output.remove(f"parts/{name}")


def may_begin_early(output: Storage, job: Job, settings: ScoreSettings) -> bool:
    """Whether shards may be scored before all is listed; `job` is one of no files yet.

    Not where a plan with its files lies there: whether those are this run's must be known first.
    """
    whole = settings.only_new or settings.retry_failed or settings.restart or settings.replace
    plan = None if whole else begun(output)
    return not whole and (plan is None or job.is_of(plan))


def check_meant(output: Storage, job: Job, plan: Plan | None, settings: ScoreSettings) -> None:
    """Nothing, if this job may be done in a place. Raises OtherRunError."""
    if not settings.replace:
        _check_input(output, job, plan)
    if plan is None or job.is_of(plan) or finished(output, plan):
        return
    before = plan.schema_version == 1 and not job.other_than_names(plan)  # its parts are redone
    if not (settings.restart or settings.only_new or settings.replace or before):
        raise OtherRunError(
            f"{output}: holds an unfinished run of another job ({job.difference(plan)}); finish "
            "that one, give another output, or --restart to begin anew"
        )


def _check_input(output: Storage, job: Job, plan: Plan | None) -> None:
    """Nothing, if what lies there is a result of this job's input, or none."""
    result = read_result(output) or read_result(output, FAILED)
    if result and not same_input(result.input, job.input):
        again = ", or --retry-failed to score again what failed in it" if plan else ""
        raise OtherRunError(
            f"{output}: holds the result of {result.input}, not of {job.input}; give another "
            f"output{again}, or --replace if that is meant"
        )
    if not (result or plan) and output.exists("predictions.csv"):
        raise OtherRunError(
            f"{output}: holds a predictions.csv, and nothing that says what it is of; give another "
            "output, or --replace if that is meant"
        )


class _Holding:
    """Whether the part of a shard holds; only what the listing names is looked at."""

    def __init__(self, output: Storage, work: Work, there: list[str]):
        self._output, self._work, self._there = output, work, set(there)
        plan = begun(output)
        self._again = plan is not None and finished(output, plan) is not None
        self._known: dict[int, bool] = {}

    def __call__(self, shard: Shard) -> bool:
        if shard.index not in self._known:
            listing = self._work.listing
            self._look(listing.shards[shard.index :] if listing.whole else [shard])
        return self._known[shard.index]

    def _look(self, shards: list[Shard]) -> None:
        """Many parts at once, where they may be: reading them takes time in a bucket."""
        perhaps = [shard for shard in shards if f"{shard.part[6:]}.json" in self._there]
        self._known |= {shard.index: False for shard in shards}
        parts = read_parts(self._output, [shard.part for shard in perhaps])
        for shard, whole in zip(perhaps, parts, strict=True):
            self._known[shard.index] = bool(whole and _holds(whole, shard, self._work, self._again))


def _holds(whole: Whole, shard: Shard, work: Work, again: bool) -> bool:
    """Whether a part is that of a shard. `again`, after a run that ended: and nothing in it failed
    for a reason that may be gone. To retry what failed, it must have failed in nothing.
    """
    ours = whole.record.job in work.job.digests and whole.record.shard == shard.names
    if not ours or whole.record.files is None or not is_of(whole, work.job):
        return False
    files = work.listing.files(shard)
    if work.settings.retry_failed and any(file.kept is None for file in files):
        return False
    if again and not may_stay(whole, files, work.by):
        return False
    return still_holds(whole, files, work.source)


def _make_way(output: Storage, set_aside: bool) -> None:
    """Take the parts of another job out of the way of this one's."""
    if set_aside and output.exists("parts"):
        numbers = [int(name) for name in output.names("previous") if name.isdecimal()]
        output.rename("parts", f"previous/{max(numbers, default=0) + 1:06d}")
    elif not set_aside:
        output.remove("parts")
        output.remove("previous")
