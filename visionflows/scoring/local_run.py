"""Score a place: one row for every image in it, in an output place that is whole or not done.

    from visionflows.scoring.local_run import score_folder
    run = score_folder("inbox", "pets", "scores/night", "store")

The same steps as the score flow takes, without Prefect: `ScoringRun` is a run on its way, on this
machine.
"""

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from visionflows.errors import SettingsError
from visionflows.inference import open_engine
from visionflows.inference.engine import Engine
from visionflows.models.registry import find
from visionflows.scoring import parts, shards
from visionflows.scoring.listing import File, Shard
from visionflows.scoring.run import ScoringRun, check_error_rate, lock_output
from visionflows.scoring.settings import ScoreSettings as ScoreSettings
from visionflows.storage.base import Entry

log = logging.getLogger("visionflows.predict")


class LocalRun(ScoringRun):
    """A scoring run on this machine."""

    engine: Engine

    def __init__(self, source: str, output: str, engine: Engine, settings: ScoreSettings):
        if settings.on != "local":
            raise SettingsError(
                f"on {settings.on}: the score flow goes there; a dry run and score_folder are this "
                "machine's own"
            )
        super().__init__(source, output, engine, settings)

    def _begin(self, left: Iterable[Shard]) -> None:
        self._rows = self.engine.stream(self.source, self._batches(left))

    def _stop(self) -> None:
        self._rows = iter(())

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
        self._input.check()  # before rows of files that are only away for a while are believed
        parts.write_part(self.output, self.job, shard, files, rows, self.backends)
        self._write_seconds += time.perf_counter() - began
        self.scored += todo
        return todo

    def preview(self) -> dict[str, Any]:
        """What a run would do, without writing anything: counts, bytes, settings, seconds."""
        self._look(early=False)
        self._left = shards.PendingShards(self.output, self._work(), self.output.names("parts"))
        left = [*self._left]
        todo = self.left
        return {
            "input": self.input,
            "output": str(self.output),
            "model": self.engine.model.name,
            "device": self.engine.info.device_name,
            "precision": self.engine.precision,
            "files": self.listing.found,
            "bytes": self.listing.bytes,
            "ignored": self.found.ignored,
            "done": self.listing.found - todo,
            "left": todo,
            "seconds": self._seconds_for(todo, left),
        }

    def _seconds_for(self, todo: int, left: list[Shard]) -> float:
        """How long the rest should take, by how long a few batches of it take."""
        few = itertools.islice(self._batches(left), self.engine.few)
        began, count = time.perf_counter(), 0
        for rows in self.engine.stream(self.source, few):
            count += len(rows)
        return round((time.perf_counter() - began) * todo / count, 2) if count else 0.0

    def _batches(self, left: Iterable[Shard]) -> Iterator[list[Entry]]:
        for shard in left:
            yield from batches(self.listing.files(shard), self.engine.batch_size)


def batches(files: list[File], size: int) -> Iterator[list[Entry]]:
    """The files that have no row yet, so many at once."""
    todo = [file.entry for file in files if file.kept is None]
    for at in range(0, len(todo), size):
        yield todo[at : at + size]


def score_folder(
    input: str, model: str, output: str, store: str | Path, settings: ScoreSettings | None = None
) -> dict[str, Any]:
    """What run.json says of a whole run, whose files are in `output`.

    The score flow without Prefect, for notebooks and for measuring what Prefect costs.
    """
    settings = settings or ScoreSettings()
    find(model, store)  # a wrong name is told at once, not after a wait for the lock
    with lock_output(output, settings.wait):
        engine = open_engine(model, store, settings)
        with contextlib.closing(LocalRun(input, output, engine, settings)) as scoring:
            for shard in scoring.pending_shards():
                scoring.score(shard)
            run = scoring.merge()
            scoring.report(run)
    check_error_rate(run)
    return run.as_dict()
