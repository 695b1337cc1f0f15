"""What is done and what is left of a scoring run, and whether it may be begun in a place at all.

    left = open_run(place("out"), Work(job, listing, source, computed, settings))
    for shard in left: write_part(place("out"), job, shard, files, rows, made)

    parts/plan.json          the job this place is being filled for
    previous/<n>/            parts of earlier runs, while --only-new takes rows over from them

A part counts as done when it is whole, its record names this very job, and its files are what they
were. So a run that was killed at any moment goes on with what is left.
"""

import dataclasses
import logging

from visionflows.errors import OtherRunError
from visionflows.places.base import Place
from visionflows.scoring.job import Job, is_consistent
from visionflows.scoring.listing import Listing, Shard
from visionflows.scoring.parts import Whole, is_of, may_stay, read_parts, still_holds
from visionflows.scoring.result import finished, read_result
from visionflows.scoring.schema import FAILED, Computed, Plan
from visionflows.scoring.settings import ScoreSettings
from visionflows.scoring.source import same_input
from visionflows.stored import NotSoError

log = logging.getLogger("visionflows.shards")

PLAN = "parts/plan.json"
# A file in `parts` for as long as a run on a cluster has its output: without it, no actor writes.
MARK = ".run-"


def begun(output: Place, folder: str = "parts") -> Plan | None:
    """The plan this place is being filled for, or was; None where that cannot be read."""
    try:
        plan = Plan.read(output.read(f"{folder}/plan.json"))
        if is_consistent(plan):
            return plan
        why = "its digest is not that of what it says"
    except FileNotFoundError:
        return None
    except (NotSoError, IsADirectoryError) as error:
        why = str(error)
    log.warning("%s/%s/plan.json: %s; it counts as none", output, folder, why)
    return None


def had_rows(output: Place) -> bool:
    """Whether a run into this output has found files before."""
    plan = begun(output)
    results = (read_result(output, folder) for folder in ("", FAILED))
    return bool(plan and plan.files) or any(run and run.books.found for run in results)


@dataclasses.dataclass(frozen=True)
class Work:
    """What a run does and with what: its job, its files, where they are read, what computes."""

    job: Job
    listing: Listing
    source: Place
    by: Computed
    settings: ScoreSettings


def open_run(output: Place, work: Work) -> list[Shard]:
    """The shards that are left to do, after writing down what this place is being filled for.

    The parts of another job are removed, or set aside where rows are taken over from them. Raises
    OtherRunError where the result of another input, or an unfinished run of another job, lies
    there and nothing says that it may go. The last result stays until the new one is whole.
    """
    plan, job, settings = begun(output), work.job, work.settings
    check_meant(output, job, plan, settings)
    if plan and plan != job.as_plan():
        _make_way(
            output, set_aside=not settings.restart and (settings.only_new or settings.retry_failed)
        )
    elif settings.restart:
        output.remove("parts")
    for name in output.names("parts"):
        if name.startswith(MARK):
            output.remove(f"parts/{name}")
    left = left_of(output, work)
    output.write(PLAN, job.as_plan().text())
    return left


def check_meant(output: Place, job: Job, plan: Plan | None, settings: ScoreSettings) -> None:
    """Nothing, if this job may be done in a place. Raises OtherRunError."""
    if not settings.replace:
        _check_input(output, job, plan)
    if plan is None or plan == job.as_plan() or finished(output, plan):
        return
    before = plan.schema_version == 1 and not job.other_than_names(plan)  # its parts are redone
    if not (settings.restart or settings.only_new or settings.replace or before):
        raise OtherRunError(
            f"{output}: holds an unfinished run of another job ({job.difference(plan)}); finish "
            "that one, give another output, or --restart to begin anew"
        )


def _check_input(output: Place, job: Job, plan: Plan | None) -> None:
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


def left_of(output: Place, work: Work) -> list[Shard]:
    """The shards without a part that holds. Only what the listing names is looked at."""
    there, shards = set(output.names("parts")), work.listing.shards
    perhaps = [shard for shard in shards if f"{shard.part[6:]}.json" in there]
    plan = begun(output)
    again = plan is not None and finished(output, plan) is not None
    parts = read_parts(output, [shard.part for shard in perhaps])
    holding = {
        shard.index
        for shard, whole in zip(perhaps, parts, strict=True)
        if whole and _holds(whole, shard, work, again)
    }
    return [shard for shard in shards if shard.index not in holding]


def _holds(whole: Whole, shard: Shard, work: Work, again: bool) -> bool:
    """Whether a part is that of a shard. `again`, after a run that ended: and nothing in it failed
    for a reason that may be gone. To retry what failed, it must have failed in nothing.
    """
    ours = (whole.record.job, whole.record.shard) == (work.job.digest, shard.names)
    if not ours or whole.record.files is None or not is_of(whole, work.job):
        return False
    files = work.listing.files(shard)
    if work.settings.retry_failed and any(file.kept is None for file in files):
        return False
    if again and not may_stay(whole, files, work.by):
        return False
    return still_holds(whole, files, work.source)


def _make_way(output: Place, set_aside: bool) -> None:
    """Take the parts of another job out of the way of this one's."""
    if set_aside and output.exists("parts"):
        numbers = [int(name) for name in output.names("previous") if name.isdecimal()]
        output.rename("parts", f"previous/{max(numbers, default=0) + 1:06d}")
    elif not set_aside:
        output.remove("parts")
        output.remove("previous")
