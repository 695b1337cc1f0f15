"""Score a place: one row for every image in it, in an output place that is whole or not done.

    from visionflows.scoring.run import score_folder
    run = score_folder("inbox", "scores/night", model="pets", store="store")

The same steps as the score flow takes, without Prefect: `ScoringRun` is a run on its way.
"""

import contextlib
import datetime
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import Field

from visionflows.engine import Engine, EngineSettings, make_engine
from visionflows.errors import PlaceError, TooManyBadError
from visionflows.images.formats import Pictures
from visionflows.machine import versions
from visionflows.model.bundle import load
from visionflows.model.registry import find
from visionflows.places import place
from visionflows.places.base import Entry
from visionflows.places.local import LocalPlace
from visionflows.reports.scoring import collect_samples, scoring_report
from visionflows.scoring import shards
from visionflows.scoring.books import Books
from visionflows.scoring.earlier import Earlier
from visionflows.scoring.job import Job
from visionflows.scoring.listing import Shard, is_list, list_files, named_in, outside
from visionflows.scoring.timings import timings

log = logging.getLogger("visionflows.predict")

SCHEMA_VERSION = 1
# What the rows may take, twice: as parts, and joined. Generous for paths of 100 characters.
BYTES_A_ROW, BYTES_A_PROBABILITY = 200, 9
# Below this many files a share of failures says little.
FEW = 20


class ScoreSettings(EngineSettings):
    """How to score a place."""

    shard_size: int = Field(
        1000, ge=1, le=1_000_000, description="Files a part, the unit of resuming."
    )
    top: int = Field(0, ge=0, le=1000, description="Columns with the best K classes, in order.")
    only_new: bool = Field(
        False, description="Take over the rows of files that this output has already scored."
    )
    restart: bool = Field(
        False, description="Begin anew where an unfinished run of another job lies in the output."
    )
    max_error_rate: float = Field(
        0.05,
        ge=0,
        le=1,
        description="The run fails if more than this share of 20 or more files do.",
    )
    wait: float = Field(0, ge=0, description="Seconds to wait for another run into the output.")


class ScoringRun:
    """A scoring run on its way: prepared, scored a shard at a time, merged, finished."""

    def __init__(self, source: str, output: str, engine: Engine, settings: ScoreSettings):
        self.input, self.output = source, place(output)
        self.engine, self.settings = engine, settings
        self.started = datetime.datetime.now(datetime.UTC)
        self.scored = 0
        self._clock = time.perf_counter()
        self._list_seconds = self._write_seconds = 0.0

    @contextlib.contextmanager
    def alone(self) -> Iterator["ScoringRun"]:
        """Hold the output for the block, so that no two runs write into it."""
        self.output.check_writable()
        with self.output.lock(".lock", self.settings.wait):
            yield self

    def prepare(self) -> list[Shard]:
        """List the input and return the shards that are left to score. Raises before any work."""
        self._look()
        self._check_room()
        settings = self.settings
        for shard in self.listing.shards[:1]:
            files = self.listing.files(shard)
            self.source.check_readable([file.entry.name for file in (files[0], files[-1])])
        left = shards.open_run(
            self.output, self.job, self.listing, settings.restart, settings.only_new
        )
        self.left = self._todo(left)
        log.info("%s", self._found(left))
        self._rows = self.engine.stream(self.source, self._batches(left))
        return left

    def score(self, shard: Shard, on_batch: Callable[[int], None] | None = None) -> int:
        """Score a shard and write its part; how many files had to be scored. Shards in order."""
        files = self.listing.files(shard)
        todo = sum(file.kept is None for file in files)
        rows = []
        for batch in itertools.islice(self._rows, -(-todo // self.engine.batch_size)):
            rows += batch
            if on_batch:
                on_batch(len(batch))
        began = time.perf_counter()
        shards.write_part(self.output, self.job, shard, files, rows)
        self._write_seconds += time.perf_counter() - began
        self.scored += todo
        return todo

    def merge(self) -> dict:
        """Write predictions.csv from the parts; returns what run.json will say."""
        began = time.perf_counter()
        books, files = shards.merge(self.output, self.job, self.listing)
        self._write_seconds += time.perf_counter() - began
        told = books.as_dict() | {
            "ignored": self.ignored,
            "ignored_by_ending": self._pictures.by_ending(),
        }
        if self.earlier:
            told |= {"changed": self.earlier.changed, "vanished": self.earlier.vanished}
        model = self.engine.model
        keys = ("name", "version", "architecture", "classes", "image_size")
        return {
            "schema_version": SCHEMA_VERSION,
            "run": str(self.output).rstrip("/").rpartition("/")[2],
            "status": "failed" if self._too_many(books) else "done",
            "input": str(self.input),
            "output": str(self.output),
            "model": {
                **{key: model.info[key] for key in keys},
                "digest": model.digest,
                "place": str(model.place),
            },
            "settings": self.job.settings,
            "device": self.engine.device_name,
            "books": told,
            "confidence_histogram": books.histogram,
            "timings": self._timings(),
            "started": self.started.isoformat(timespec="seconds"),
            "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "files": files,
            "versions": versions(),
        }

    def report(self, run: dict) -> None:
        """Write report.html and then run.json, so that it is never there without the page."""
        page = scoring_report(run, collect_samples(run, self.source, self.output))
        self.output.write("report.html", page.encode())
        shards.finish(self.output, run)

    def preview(self) -> dict:
        """What a run would do, without writing anything: counts, bytes, settings, seconds."""
        self._look()
        digest = self.job.digest
        plan = shards.begun(self.output)
        same = plan is not None and plan["job"] == digest
        left = [
            shard
            for shard in self.listing.shards
            if not (same and shards.done(self.output, digest, shard))
        ]
        todo = self._todo(left)
        return {
            "input": self.input,
            "output": str(self.output),
            "model": self.engine.model.name,
            "device": self.engine.device_name,
            "precision": self.engine.precision,
            "files": self.listing.found,
            "bytes": self.listing.bytes,
            "ignored": self.ignored,
            "done": self.listing.found - todo,
            "left": todo,
            "seconds": self._seconds_for(todo, left),
        }

    def _todo(self, left: list[Shard]) -> int:
        """How many files of these shards have no row yet."""
        if not self.listing.kept:
            return sum(shard.count for shard in left)
        return sum(file.kept is None for shard in left for file in self.listing.files(shard))

    def _seconds_for(self, todo: int, left: list[Shard]) -> float:
        """How long the rest should take, by how long a few batches of it take."""
        few = itertools.islice(self._batches(left), self.engine.few)
        began, count = time.perf_counter(), 0
        for rows in self.engine.stream(self.source, few):
            count += len(rows)
        return round((time.perf_counter() - began) * todo / count, 2) if count else 0.0

    def _look(self) -> None:
        """List the input, beside the rows that earlier runs have of it."""
        began = time.perf_counter()
        if is_list(self.input):
            self.source, entries = named_in(self.input)
            self._pictures = Pictures(self.source.head)
        else:
            self.source = place(self.input)
            self._pictures = Pictures(self.source.head)
            entries = outside(self.source.walk(), self._output_inside())
            entries = (entry for entry in entries if self._pictures(entry.name))
        self.earlier = None
        if self.settings.only_new:
            self.earlier = Earlier(self.output, self.source, self._job("", 0))
        kept = {"kept": self.earlier.row} if self.earlier else {}
        self.listing = list_files(entries, self.settings.shard_size, **kept)
        if self.earlier:
            self.earlier.end()
        self.job = self._job(self.listing.digest, self.listing.found)
        self._list_seconds = time.perf_counter() - began

    @property
    def ignored(self) -> int:
        """How many files of the input are no pictures."""
        return self._pictures.others.total()

    def _output_inside(self) -> str | None:
        """Where the output lies inside the input, if it does."""
        if not (isinstance(self.source, LocalPlace) and isinstance(self.output, LocalPlace)):
            source, output = f"{self.source}".rstrip("/") + "/", f"{self.output}".rstrip("/")
            return output.removeprefix(source) if output.startswith(source) else None
        source, output = self.source.root.resolve(), self.output.root.resolve()
        if source != output and output.is_relative_to(source):
            return output.relative_to(source).as_posix()
        return None

    def _found(self, left: list[Shard]) -> str:
        listing = self.listing
        line = f"{self.input}: {listing.found} images in {len(listing.shards)} shards"
        if len(left) < len(listing.shards):
            line += f", {len(listing.shards) - len(left)} of them done already"
        if self.earlier:
            line += f"; {listing.kept} rows taken over, {self.earlier.changed} files changed"
            line += f", {self.earlier.vanished} vanished"
        if self.ignored:
            endings = self._pictures.by_ending().items()
            counts = ", ".join(f"{count} {ending}" for ending, count in endings)
            line += f"; no pictures: {counts}"
        return line

    def _check_room(self) -> None:
        row = BYTES_A_ROW + BYTES_A_PROBABILITY * len(self.engine.model.classes)
        need, free = 2 * row * self.listing.found + (20 << 20), self.output.free_bytes()
        if free is not None and free < need:
            raise PlaceError(
                f"{self.output}: {free >> 20} MB free, the result may need {need >> 20} MB; "
                "free some space or name another output"
            )

    def _job(self, listing: str, files: int) -> Job:
        settings, engine = self.settings, self.engine
        return Job(
            input=str(self.input),
            listing=listing,
            files=files,
            model=engine.model.digest,
            classes=tuple(engine.model.classes),
            settings={
                "precision": engine.precision,
                "batch_size": engine.batch_size,
                "max_pixels": settings.max_pixels,
                "top": settings.top,
                "shard_size": settings.shard_size,
                # What the model itself says is in its digest.
                **({"decode": settings.decode} if engine.decode_overruled else {}),
            },
        )

    def _batches(self, left: list[Shard]) -> Iterator[list[Entry]]:
        size = self.engine.batch_size
        for shard in left:
            todo = [file.entry for file in self.listing.files(shard) if file.kept is None]
            for at in range(0, len(todo), size):
                yield todo[at : at + size]

    def _too_many(self, books: Books) -> bool:
        return books.found >= FEW and books.failed > self.settings.max_error_rate * books.found

    def _timings(self) -> dict:
        stages = {"list": self._list_seconds, **self.engine.seconds, "write": self._write_seconds}
        told = timings(stages, time.perf_counter() - self._clock, self.scored)
        return told | {"forwarded": self.engine.forwarded}


def check_errors(run: dict) -> None:
    """Nothing, if few enough files failed. Raises TooManyBadError; everything is written by now."""
    if run["status"] == "failed":
        books = run["books"]
        raise TooManyBadError(
            f"{run['input']}: {books['failed']} of {books['found']} files failed, more than "
            f"--max-error-rate allows; {run['output']}/failures.csv lists them, and can be scored"
        )


def open_engine(model: str, store: str | Path, settings: EngineSettings) -> Engine:
    """The engine of a model named as people name it, loaded and checked against itself."""
    found = load(find(model, store))
    engine = make_engine(found, settings)
    log.info("%s on %s, %s", found.name, engine.device_name, engine.precision)
    return engine


def score_folder(
    source: str, output: str, model: str, store: str | Path, settings: ScoreSettings | None = None
) -> dict:
    """What run.json says of a whole run, whose files are in `output`.

    The score flow without Prefect, for notebooks and for measuring what Prefect costs.
    """
    settings = settings or ScoreSettings()
    engine = open_engine(model, store, settings)
    with ScoringRun(source, output, engine, settings).alone() as scoring:
        for shard in scoring.prepare():
            scoring.score(shard)
        run = scoring.merge()
        scoring.report(run)
    check_errors(run)
    return run
