"""A scoring run, on this machine (`local_run.LocalRun`) or a cluster (`cluster.ray_run.RayRun`)."""

import abc
import contextlib
import datetime
import logging
import math
import re
import time
from collections.abc import Callable, Iterator

from visionflows.errors import StorageError, TooManyBadError
from visionflows.images.formats import format_counts
from visionflows.models.registry import default_store
from visionflows.reports.rendering import describe
from visionflows.scoring import result, review_results, shards
from visionflows.scoring.disk_space import check_disk_space
from visionflows.scoring.input_source import Source
from visionflows.scoring.job import AnyEngine, make_job
from visionflows.scoring.listing import Shard
from visionflows.scoring.run_history import RunHistory
from visionflows.scoring.schema import Counts, RunCounts, RunResult, Timings, WrittenFile
from visionflows.scoring.settings import ScoreSettings
from visionflows.scoring.work_list import start_work_list
from visionflows.storage import location_text, open_storage, own_locations
from visionflows.storage.base import SkippedFiles
from visionflows.system import library_versions

log = logging.getLogger("visionflows.scoring")

MIN_FILES_FOR_ERROR_RATE = 20
LISTED_FIRST = 20_000  # files that are listed before the first is scored
# Names of large files in an output; in a bucket, unfinished uploads are recognised by them.
_OUTPUT_FILES = re.compile(
    r"part-\d+\.\w+|(predictions|failures|spreadsheet)\.csv|(report|review|history)\.html|run\.json"
)
_STAGES = {"forward": "the network", "decode": "decoding", "read": "reading", "transfer": "sending"}


class ScoringRun(abc.ABC):
    """A scoring run: prepare, score a shard at a time, merge, report."""

    def __init__(
        self, source: str, output: str, engine: AnyEngine, settings: ScoreSettings, store: str = ""
    ):
        self._own = own_locations(store or default_store(), output)
        self.input, self.output = source, open_storage(output)
        self.engine, self.settings = engine, settings
        self.backends = [engine.info.backend]  # followed by those of reused rows
        self.started = datetime.datetime.now(datetime.UTC)
        self.scored = 0
        self.is_listed = False  # whether all files are known
        self._clock = time.perf_counter()
        self._list_seconds = self._write_seconds = 0.0

    def close(self) -> None:
        """Stop listing."""
        if hasattr(self, "listing"):
            self.listing.close()

    def pending_shards(self) -> Iterator[Shard]:
        """Prepare the run; then every shard that needs scoring, in order."""
        self.prepare()
        yield from self.shards_while_listing()
        yield from self.shards_after_listing()

    def prepare(self) -> None:
        """List the input, or start to, and open the output. A listing may still fail later."""
        self._start_listing()
        self._check_input()
        if self.listing.ended:
            self.listing.wait()  # raises the error that ended it
        check_disk_space(self.output, self.job, self.listing.found)
        self._pending = shards.prepare_output(self.output, self._work_list)
        self._todo = iter(self._pending)
        if self.is_listed:
            self._log_counts()
        else:
            found = self.listing.found
            log.info("%s: %d images so far; scoring while the rest is listed", self.input, found)

    def shards_while_listing(self) -> Iterator[Shard]:
        """Shards that need scoring, until the listing has ended."""
        while not self.is_listed and not self.listing.ended and (shard := next(self._todo, None)):
            yield shard

    def shards_after_listing(self) -> list[Shard]:
        """Wait for the listing, complete the plan, and return the other shards to score."""
        if not self.is_listed:
            started = time.perf_counter()
            self._finish_listing()
            self._list_seconds += time.perf_counter() - started
            check_disk_space(self.output, self.job, self.listing.found)
            shards.write_plan(self.output, self._work_list)
            self._log_counts()
        return [*self._todo]

    @property
    def remaining(self) -> int:
        """Files that had no row when the run began, as far as they are listed."""
        return self.listing.found - self.listing.reused - self._pending.done

    @abc.abstractmethod
    def score(self, shard: Shard, on_batch: Callable[[int], None] | None = None) -> int:
        """Score the next shard and write its part; returns the number of files scored."""

    def merge(self) -> RunResult:
        """Write predictions.csv from the parts; returns the content of run.json."""
        started = time.perf_counter()
        merge = result.Merge(self.output, self.job, self.listing, self.engine.model)
        counts = merge.count()
        too_many = counts.failed > self.settings.max_error_rate * counts.found
        failed = too_many and counts.found >= MIN_FILES_FOR_ERROR_RATE
        folder = result.result_folder(self.output, failed)
        files = merge.write(folder, self.settings.spreadsheet)
        self._write_seconds += time.perf_counter() - started
        run = self._result(merge, files, failed)
        self.history = RunHistory(self.output, self.engine.model)
        return self.history.with_drift(run, self.job.run, merge.counter.new_rows)

    def _result(
        self, merge: result.Merge, files: dict[str, WrittenFile], failed: bool
    ) -> RunResult:
        model, settings = self.engine.model, self.job.settings
        output = location_text(self.output, absolute=False)
        return RunResult(
            schema_version=RunResult.VERSION,
            run=output.rstrip("/").rpartition("/")[2],
            status="failed" if failed else "done",
            input=self._source.text,
            root=self._source.root,
            output=output,
            job=self.job.digest,
            model=result.describe_model(model),
            settings=settings,
            device=self.engine.info.device_name,
            limits=self.engine.info.limits,
            skipped=dict(self._source.skipped.counts),
            backends=merge.backends,
            counts=self._counts(merge.counter.counts()),
            review=result.describe_review(model, settings),
            confidence_histogram=merge.counter.histogram,
            timings=self._timings(),
            duplicates=merge.duplicates.counts() if merge.duplicates else None,
            nodes={},
            started=self.started.isoformat(timespec="seconds"),
            ended=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            files=files,
            versions=library_versions(),
        )

    def _counts(self, counts: Counts) -> RunCounts:
        work, found = self._work_list, counts.model_dump()
        found |= {"ignored": work.ignored, "ignored_by_ending": work.ignored_by_ending}
        if work.reusable:
            found |= {"changed": work.reusable.changed, "vanished": work.reusable.vanished}
        return RunCounts(**found)

    def report(self, run: RunResult) -> None:
        """Write the run record, the pages, and run.json last."""
        self.history.save()
        review_results.write_pages(run, self.engine.model, self.source, self.output)
        result.write_run_json(self.output, run)
        if mixed := describe("mixed", run):
            log.warning("%s: %s", self.output, mixed)

    def _start_listing(self) -> None:
        started = time.perf_counter()
        skipped = SkippedFiles(self._own, self.settings.follow_links, self.settings.min_age, {})
        self._source = Source(self.input, skipped)
        self.source = self._source.storage
        run = self.started.isoformat(timespec="milliseconds")
        job = make_job(self.engine, self._source.text, self.settings, run)
        early = shards.can_score_early(self.output, job, self.settings)
        work = start_work_list(self._source, self.output, job, self.backends, self.settings)
        self._work_list, self.listing, self.job = work, work.listing, work.job
        self.listing.wait(LISTED_FIRST if early else math.inf)
        if self.listing.ended:
            self._finish_listing()
        self._list_seconds += time.perf_counter() - started

    def _finish_listing(self) -> None:
        self.job, self.is_listed = self._work_list.finish().job, True

    def _check_input(self) -> None:
        """Raise StorageError if the input is unexpectedly empty, or cannot be read."""
        if not (self.listing.found or self.settings.allow_empty) and shards.has_rows(self.output):
            raise StorageError(
                f"{self.input}: holds no image, and {self.output} has rows of earlier ones; "
                "restore the images (is it mounted?), or use --allow-empty if that is intended"
            )
        for shard in self.listing.shards[:1]:
            files = self.listing.files(shard)
            self.source.check_readable([file.entry.name for file in (files[0], files[-1])])

    def _log_counts(self) -> None:
        listing, work = self.listing, self._work_list
        count = len(listing.shards)
        line = f"{self.input}: {listing.found} images in {count} shard{'' if count == 1 else 's'}"
        if done := count - len([*self._pending]):
            line += f", {done} of them already done"
        if work.reusable:
            line += f"; {listing.reused} rows reused, {work.reusable.changed} files changed"
            line += f", {work.reusable.vanished} vanished"
        if work.ignored_by_ending:
            line += f"; not images: {format_counts(work.ignored_by_ending)}"
        for message in (line, *self._source.skipped.lines()):
            log.info("%s", message)

    def _timings(self) -> Timings:
        seconds, scored = time.perf_counter() - self._clock, self.scored
        stages = {"list": self._list_seconds, **self.engine.seconds, "write": self._write_seconds}
        per_1000 = 1000 / max(scored, 1)
        return Timings(
            seconds=round(seconds, 3),
            scored=scored,
            images_per_second=round(scored / seconds, 2),
            seconds_per_1000={name: round(value * per_1000, 3) for name, value in stages.items()},
            bottleneck=find_bottleneck(stages, seconds) if scored else "nothing was left to score",
            forwarded=self.engine.forwarded,
        )


def find_bottleneck(stages: dict[str, float], seconds: float) -> str:
    """The stage that took most of the run's seconds, as a sentence."""
    stage = max(_STAGES, key=lambda name: stages.get(name, 0.0))
    share = min(stages.get(stage, 0.0) / seconds, 1.0)
    return f"{stage}-bound: {_STAGES[stage]} takes {100 * share:.0f} % of the time"


@contextlib.contextmanager
def lock_output(output: str, wait: float) -> Iterator[None]:
    """Lock an output for the block. Raises LockedError after `wait` seconds, and StorageError."""
    storage = open_storage(output)
    existed = storage.exists()
    try:
        with storage.lock(".lock", wait):
            storage.check_writable()
            previous = (f"previous/{name}" for name in storage.names("previous"))
            folders = ("", "parts", "failed", "history", *previous)
            storage.clear_temporary(folders, _OUTPUT_FILES.fullmatch)
            yield
    finally:
        if not existed:
            storage.remove_if_empty()


def check_error_rate(run: RunResult) -> None:
    """Raise TooManyBadError if the run failed; its result is written by then."""
    if run.status == "failed":
        raise TooManyBadError(
            f"{run.input}: {run.counts.failed} of {run.counts.found} files failed, more than "
            f"--max-error-rate allows; {run.output}/{run.folder}failures.csv lists them, and "
            "--retry-failed scores them again"
        )
