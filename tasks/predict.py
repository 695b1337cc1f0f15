"""Score a place: one row for every image in it, in an output place that is whole or not done.

    from tasks.predict import score_folder
    run = score_folder("inbox", "scores/night", model="pets", store="store")

The same steps as the score flow takes, without Prefect: `Scoring` is a run on its way.
"""

import datetime
import itertools
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from tasks import bundle, shards
from tasks.engine import Engine, EngineSettings
from tasks.errors import PlaceError
from tasks.shards import Job, Listing, Shard
from tasks.storage import LocalPlace, Place, place

log = logging.getLogger("visionflows.predict")

SCHEMA_VERSION = 1
# At least this much must be free for the rows and the report, per file and class.
BYTES_A_ROW, BYTES_A_CLASS = 200, 9


class ScoreSettings(EngineSettings):
    """How to score a place."""

    shard_size: int = Field(
        1000, ge=1, le=1_000_000, description="Files a part, the unit of resuming."
    )


class Scoring:
    """A scoring run on its way: prepared, scored a shard at a time, finished."""

    def __init__(self, source: Place, output: Place, engine: Engine, settings: ScoreSettings):
        self.source, self.output, self.engine, self.settings = source, output, engine, settings
        self.started = datetime.datetime.now(datetime.UTC)
        self._clock = time.perf_counter()
        self._spool = Path(tempfile.mkdtemp(prefix="visionflows-"))
        self._write_seconds = 0.0
        self.scored = 0

    def close(self) -> None:
        """Let go of what the run holds on this machine."""
        shutil.rmtree(self._spool, ignore_errors=True)

    def prepare(self, restart: bool = False) -> list[Shard]:
        """List the input and return the shards that are left to score. Raises before any work."""
        self.output.check_writable()
        began = time.perf_counter()
        self.listing = self._list()
        self._list_seconds = time.perf_counter() - began
        self._check_room()
        self.job = self._job()
        left = shards.open_run(self.output, self.job, self.listing, restart)
        done = len(self.listing.shards) - len(left)
        log.info(
            "%s: %d images in %d shards%s",
            *(self.source, self.listing.found, len(self.listing.shards)),
            f", {done} of them done already" if done else "",
        )
        self._rows = self.engine.stream(self.source, self._batches(left))
        return left

    def score(self, shard: Shard) -> int:
        """Score a shard and write its part; returns how many files it had. Shards in order."""
        batches = -(-shard.count // self.engine.batch_size)
        rows = list(itertools.chain.from_iterable(itertools.islice(self._rows, batches)))
        began = time.perf_counter()
        shards.write_part(self.output, self.job, shard, rows)
        self._write_seconds += time.perf_counter() - began
        self.scored += len(rows)
        return len(rows)

    def merge(self) -> dict:
        """Write predictions.csv from the parts; returns what run.json will say."""
        began = time.perf_counter()
        books, file = shards.merge(self.output, self.job, self.listing)
        self._write_seconds += time.perf_counter() - began
        info = self.engine.model.info
        return {
            "schema_version": SCHEMA_VERSION,
            "run": str(self.output).rstrip("/").rpartition("/")[2],
            "input": str(self.source),
            "output": str(self.output),
            "model": {
                **{key: info[key] for key in ("name", "version", "architecture", "classes")},
                **{"image_size": info["image_size"], "digest": self.engine.model.digest},
                "place": str(self.engine.model.place),
            },
            "settings": self.job.settings,
            "device": self.engine.device_name,
            "books": books.as_dict() | {"ignored": self.listing.ignored},
            "confidence_histogram": books.histogram,
            "timings": self._timings(),
            "started": self.started.isoformat(timespec="seconds"),
            "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "files": {"predictions.csv": file},
            "versions": bundle.versions(),
        }

    def _list(self) -> Listing:
        inside = None
        if isinstance(self.source, LocalPlace) and isinstance(self.output, LocalPlace):
            source, output = self.source.root.resolve(), self.output.root.resolve()
            if output.is_relative_to(source) and output != source:
                inside = output.relative_to(source).as_posix()
        return shards.list_files(
            self.source, self._spool / "listing", self.settings.shard_size, inside
        )

    def _check_room(self) -> None:
        row = BYTES_A_ROW + BYTES_A_CLASS * len(self.engine.model.classes)
        need, free = 2 * row * self.listing.found + (20 << 20), self.output.free_bytes()
        if free is not None and free < need:
            raise PlaceError(
                f"{self.output}: {free >> 20} MB free, the result may need {need >> 20} MB; "
                "free some space or name another output"
            )

    def _job(self) -> Job:
        settings, engine = self.settings, self.engine
        return Job(
            input=str(self.source),
            listing=self.listing.digest,
            files=self.listing.found,
            model=engine.model.digest,
            classes=tuple(engine.model.classes),
            settings={
                "precision": engine.precision,
                "batch_size": engine.batch_size,
                "max_pixels": settings.max_pixels,
                "shard_size": settings.shard_size,
            },
        )

    def _batches(self, left: list[Shard]) -> Iterator[list[str]]:
        for shard in left:
            yield from shards.batches(self.listing.entries(shard), self.engine.batch_size)

    def _timings(self) -> dict:
        seconds = time.perf_counter() - self._clock
        stages = {"list": self._list_seconds, **self.engine.seconds, "write": self._write_seconds}
        per_1000 = 1000 / max(self.scored, 1)
        return {
            "seconds": round(seconds, 3),
            "scored": self.scored,
            "images_per_second": round(self.scored / seconds, 2),
            "per_1000": {name: round(value * per_1000, 3) for name, value in stages.items()},
            "limit": _limit(self.engine.seconds, seconds, self.scored),
        }


def _limit(stages: dict[str, float], seconds: float, scored: int) -> str:
    """One plain sentence: which stage kept the others waiting."""
    if not scored:
        return "nothing was left to score"
    names = {
        "forward": "the network",
        "decode": "decoding",
        "read": "reading",
        "transfer": "transfer",
    }
    stage = max(stages, key=stages.get)
    share = min(stages[stage] / seconds, 1.0)
    return f"{stage}-bound: {names[stage]} takes {share:.0%} of the time".replace("%", " %")


def open_engine(model: str, store: str | Path, settings: EngineSettings) -> Engine:
    """The engine of a model named as people name it, loaded and checked against itself."""
    found = bundle.load(bundle.find(model, store))
    engine = Engine(found, settings)
    log.info("%s on %s, %s", found.name, engine.device_name, engine.precision)
    return engine


def score_folder(
    source: str,
    output: str,
    model: str,
    store: str | Path,
    settings: ScoreSettings | None = None,
    restart: bool = False,
) -> dict:
    """What run.json says of a whole run: predictions.csv and its parts are written, no report.

    The score flow without Prefect, for notebooks and for measuring what Prefect costs.
    """
    settings = settings or ScoreSettings()
    engine = open_engine(model, store, settings)
    scoring = Scoring(place(source), place(output), engine, settings)
    with place(output).lock(".lock"):
        try:
            for shard in scoring.prepare(restart):
                scoring.score(shard)
            run = scoring.merge()
            shards.finish(scoring.output, run)
        finally:
            scoring.close()
    return run
