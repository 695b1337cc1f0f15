"""A scoring run, whatever computes: it lists, opens its output, merges, and reports.

    with run.alone():
        for shard in run.to_score():
            run.score(shard)
        run.report(run.merge())

A large input is scored while it is still being listed; its job is settled when that has ended. How
a shard is computed is said by `scoring.run.ScoringRun`, on this machine, and by
`cluster.run.ClusterRun`, on others.
"""

import abc
import contextlib
import datetime
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator

from visionflows.errors import StorageError, TooManyBadError
from visionflows.images.formats import format_counts
from visionflows.scoring import result, review_results, shards
from visionflows.scoring.counts import RunCounter
from visionflows.scoring.input_source import Source
from visionflows.scoring.job import AnyEngine, described, make_job
from visionflows.scoring.listing import Shard
from visionflows.scoring.run_history import History
from visionflows.scoring.run_report import run_page
from visionflows.scoring.schema import NodeTimings, RunCounts, RunResult, Timings
from visionflows.scoring.settings import ScoreSettings
from visionflows.scoring.timings import timings
from visionflows.scoring.work_list import WorkList, check_room, start_work_list
from visionflows.storage import open_storage
from visionflows.storage.base import Storage
from visionflows.storage.local import drop_if_empty
from visionflows.system import library_versions

log = logging.getLogger("visionflows.predict")

# Below this many files a share of failures says little.
FEW = 20
# Files that are listed before any is scored: up to so many, all is known before any work.
LISTED_FIRST = 20_000
# What an output holds that may be large; a bucket tells whose an unfinished file is by its name.
_OURS = re.compile(
    r"part-\d+\.\w+|(predictions|failures|spreadsheet)\.csv|(report|review|history)\.html|run\.json"
)


class ScoringRun(abc.ABC):
    """A scoring run on its way: prepared, scored a shard at a time, merged, finished."""

    def __init__(self, source: str, output: str, engine: AnyEngine, settings: ScoreSettings):
        self.input, self.output = source, open_storage(output)
        self.engine, self.settings = engine, settings
        self.backends = [engine.info.backend]  # followed by those of reused rows
        self.started = datetime.datetime.now(datetime.UTC)
        self.scored = self._before = 0  # in all, and before all was listed again
        self.listed = False  # whether all files are known, and so the job
        self._inventory: WorkList | None = None
        self._clock = time.perf_counter()
        self._list_seconds = self._write_seconds = 0.0

    @contextlib.contextmanager
    def lock_output(self) -> Iterator["ScoringRun"]:
        """Hold the output for the block, so that no two runs write into it; then close."""
        with lock_output(self.output, self.settings.wait), contextlib.closing(self):
            yield self

    def close(self) -> None:
        """Let nothing more be listed."""
        if self._inventory:
            self._inventory.listing.close()

    def pending_shards(self) -> Iterator[Shard]:
        """Every shard that is left to score, in order."""
        self.prepare()
        yield from self.shards_while_listing()
        yield from self.shards_after_listing()

    def prepare(self) -> None:
        """List the input, or begin to, and open the output. Raises before any work; of a large
        input, what the rest of its listing meets comes later."""
        self._look(early=True)
        self._check_input()
        self._open()
        if self.listed:
            self._tell()
        else:
            what = f"{self.input}: {self.listing.found} images and more"
            log.info("%s: they are scored while the rest is listed", what)

    def shards_while_listing(self) -> Iterator[Shard]:
        """The shards that are left, for as long as the input is still being listed."""
        left = iter(self._left)
        while not self.listed and not self.listing.ended and (shard := next(left, None)):
            self._given += 1
            yield shard

    def shards_after_listing(self) -> list[Shard]:
        """The shards that are left when all is listed; and the output says of what files it is."""
        if not self.listed:
            began = time.perf_counter()
            self.listing.wait()
            self._list_seconds += time.perf_counter() - began
            if self.listing.unsorted:
                self._list_again()
            else:
                self._all_listed()
                self._check_room()
                shards.settle(self.output, self._work())
            self._tell()
        return [*self._left][self._given :]

    @property
    def left(self) -> int:
        """How many files had no row when the run began, as far as is listed."""
        return self.listing.found - self.listing.kept - self._left.held + self._before

    def _open(self) -> None:
        if self.listing.ended:
            self.listing.wait()  # it may have broken off since
        self._check_room()
        self._left, self._given = shards.open_run(self.output, self._work()), 0
        self._begin(self._left)

    def _list_again(self) -> None:
        """Begin anew, with names in order: parts whose names are a shard's still hold."""
        log.info("%s: its names come in another order than ours: it is listed again", self.input)
        self._stop()
        self._before = self.scored
        self._look(early=False)
        self._open()

    @abc.abstractmethod
    def _stop(self) -> None:
        """Have nothing more computed of what was begun."""

    @abc.abstractmethod
    def _begin(self, left: Iterable[Shard]) -> None:
        """Have the files of these shards computed from now on, in order."""

    @abc.abstractmethod
    def score(self, shard: Shard, on_batch: Callable[[int], None] | None = None) -> int:
        """Score a shard and write its part; how many files had to be scored. Shards in order."""

    def merge(self) -> RunResult:
        """Write predictions.csv from the parts; returns what run.json will say.

        What a run that fails leaves does not replace the last good result: see `result`.
        """
        began = time.perf_counter()
        what = (self.output, self.job, self.listing)
        counts, backends = result.tally(*what)
        folder = result.folder_for(self.output, failed := self._too_many(counts))
        extra = result.extra(*what, self.engine.model, self.settings.spreadsheet)
        files = result.join(*what, counts, folder, extra)
        self._write_seconds += time.perf_counter() - began
        told = RunResult(
            schema_version=RunResult.VERSION,
            run=str(self.output).rstrip("/").rpartition("/")[2],
            status="failed" if failed else "done",
            input=self._input.text,
            root=self._input.root,
            output=str(self.output),
            job=self.job.digest,
            model=described(self.engine.model),
            settings=self.job.settings,
            device=self.engine.info.device_name,
            limits=self.engine.info.limits,
            passed_over=dict(self._input.skipped.hidden),
            backends=backends,
            counts=self._counts(counts),
            review=result.review_of(self.engine.model, self.job.settings),
            confidence_histogram=counts.histogram,
            find_duplicates=extra.counts,
            timings=self._timings(),
            nodes=self._nodes(),
            started=self.started.isoformat(timespec="seconds"),
            ended=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            files=files,
            versions=library_versions(),
        )
        self.history = History(self.output, self.engine.model)
        return self.history.judged(told, self.job.run, counts.gathered)

    def _nodes(self) -> dict[str, NodeTimings]:
        """What each node of a cluster did; nothing on one machine."""
        return {}

    def _counts(self, counts: RunCounter) -> RunCounts:
        told = counts.counts().model_dump()
        found = self.found
        told |= {"ignored": found.ignored, "ignored_by_ending": found.ignored_by_ending}
        if found.earlier:
            told |= {"changed": found.earlier.changed, "vanished": found.earlier.vanished}
        return RunCounts(**told)

    def report(self, run: RunResult) -> None:
        """Write the night's record, the pages and then run.json, which says that all is there."""
        self.history.keep()
        page = run_page(run, self.engine.model, self.source, self.output)
        review_results.write_pages(run, page, self.source, self.output)
        result.finish(self.output, run)
        if run.mixed:
            log.warning("%s: %s", self.output, run.mixed)

    def _look(self, early: bool) -> None:
        """List the input, beside the rows that earlier runs have of it; `early`: or begin to."""
        began = time.perf_counter()
        self._input = Source(self.input)
        self.source = self._input.storage
        run = self.started.isoformat(timespec="milliseconds")
        job = make_job(self.engine, self._input.text, self.settings, run)
        early = early and shards.may_begin_early(self.output, job, self.settings)
        what = (self._input, self.output, job, self.backends, self.settings)
        self._inventory = start_work_list(*what, sort=not early)
        self.listing, self.job = self._inventory.listing, job
        self.listing.wait(LISTED_FIRST if early else None)
        self._list_seconds += time.perf_counter() - began
        if self.listing.unsorted:
            self._look(early=False)
        elif self.listing.ended:
            self._all_listed()

    def _all_listed(self) -> None:
        assert self._inventory
        self.found = self._inventory.end()
        self.job, self.listed = self.found.job, True

    def _check_room(self) -> None:
        shape = len(self.engine.model.classes), self.job.settings.shard_size
        check_room(self.output, self.listing.found, *shape, bool(self.job.settings.find_duplicates))

    def _check_input(self) -> None:
        """Nothing, if there is something to read, and it may be read. Raises before any work."""
        if not (self.listing.found or self.settings.allow_empty) and shards.has_rows(self.output):
            raise StorageError(
                f"{self.input}: holds no image, and {self.output} has rows of some it held; "
                "bring them back (is it mounted?), or --allow-empty if that is meant"
            )
        for shard in self.listing.shards[:1]:
            files = self.listing.files(shard)
            self.source.check_readable([file.entry.name for file in (files[0], files[-1])])

    def _work(self) -> shards.Work:
        return shards.Work(self.job, self.listing, self.source, self.backends[0], self.settings)

    def _tell(self) -> None:
        """Log what was found, and what was passed over."""
        listing, found = self.listing, self.found
        line = f"{self.input}: {listing.found} images in {len(listing.shards)} shards"
        if done := len(listing.shards) - len([*self._left]):
            line += f", {done} of them done already"
        if found.earlier:
            line += f"; {listing.kept} rows taken over, {found.earlier.changed} files changed"
            line += f", {found.earlier.vanished} vanished"
        if found.ignored_by_ending:
            line += f"; no pictures: {format_counts(found.ignored_by_ending)}"
        for one in (line, *self._input.skipped.lines()):
            log.info("%s", one)

    def _too_many(self, counts: RunCounter) -> bool:
        return counts.found >= FEW and counts.failed > self.settings.max_error_rate * counts.found

    def _timings(self) -> Timings:
        stages = {"list": self._list_seconds, **self.engine.seconds, "write": self._write_seconds}
        told = timings(stages, time.perf_counter() - self._clock, self.scored)
        return Timings(**told, forwarded=self.engine.forwarded)


@contextlib.contextmanager
def lock_output(output: str | Storage, wait: float) -> Iterator[None]:
    """Hold an output for the block, so that no two runs write into it; before anything is loaded.

    Raises LockedError after `wait` seconds in line, and PlaceError where it cannot be written.
    """
    where = open_storage(output) if isinstance(output, str) else output
    there = where.exists()
    try:
        with where.lock(".lock", wait):
            where.check_writable()
            previous = (f"previous/{name}" for name in where.names("previous"))
            where.clear_temporary(("", "parts", "failed", "history", *previous), _OURS.fullmatch)
            yield
    finally:
        if not there:
            drop_if_empty(where)


def check_error_rate(run: RunResult) -> None:
    """Nothing, if few enough files failed. Raises TooManyBadError; everything is written by now."""
    if run.status == "failed":
        raise TooManyBadError(
            f"{run.input}: {run.counts.failed} of {run.counts.found} files failed, more than "
            f"--max-error-rate allows; {run.output}/{run.folder}failures.csv lists them, and "
            "--retry-failed scores them again"
        )
