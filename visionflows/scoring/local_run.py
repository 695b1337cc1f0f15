"""A scoring run on this machine, and `score_folder` for notebooks."""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from visionflows.errors import SettingsError
from visionflows.inference import open_engine
from visionflows.inference.decoding import Row
from visionflows.inference.engine import Engine
from visionflows.models.registry import find_model
from visionflows.scoring import parts
from visionflows.scoring.disk_space import check_disk_space
from visionflows.scoring.listing import File, Shard
from visionflows.scoring.result import read_plan
from visionflows.scoring.run import ScoringRun, check_error_rate, lock_output
from visionflows.scoring.settings import ScoreSettings
from visionflows.scoring.shards import PendingShards, check_output
from visionflows.storage.base import Entry


class LocalRun(ScoringRun):
    """A scoring run on this machine."""

    engine: Engine

    def __init__(
        self, source: str, output: str, engine: Engine, settings: ScoreSettings, store: str = ""
    ):
        if settings.on != "local":
            raise SettingsError(
                f"on {settings.on}: a dry run and score_folder only run on this machine; use the "
                "score flow"
            )
        super().__init__(source, output, engine, settings, store)

    @functools.cached_property
    def _rows(self) -> Iterator[list[Row]]:
        """The rows of all batches that need scoring, computed a few batches ahead."""
        return self.engine.predict_batches(self.source, self._batches(self._pending))

    def score(self, shard: Shard, on_batch: Callable[[int], None] | None = None) -> int:
        """Score a shard and write its part; returns the number of files scored."""
        files = self.listing.files(shard)
        count = sum(file.reused is None for file in files)
        rows = []
        for batch in itertools.islice(self._rows, -(-count // self.engine.info.batch_size)):
            rows += batch
            if on_batch:
                on_batch(len(batch))
        started = time.perf_counter()
        self._source.check_unchanged()  # else files of an unmounted disk would count as missing
        parts.write_part(self.output, self.job, shard, files, rows, self.backends)
        self._write_seconds += time.perf_counter() - started
        self.scored += count
        return count

    def preview(self) -> dict[str, Any]:
        """What a run would do, without writing: counts, bytes, settings, estimated seconds.

        Raises what the run would raise before it scores.
        """
        self._start_listing()
        self._check_input()
        self._work_list.finish()
        # What the run would refuse.
        check_output(self.output, self.job, read_plan(self.output), self.settings)
        check_disk_space(self.output, self.job, self.listing.found)
        self._pending = PendingShards(self.output, self._work_list)
        pending = [*self._pending]
        return {
            "input": self.input,
            "output": str(self.output),
            "model": self.engine.model.name,
            "device": self.engine.info.device_name,
            "precision": self.engine.info.backend.precision,
            "files": self.listing.found,
            "bytes": self.listing.bytes,
            "ignored": self._work_list.ignored,
            "done": self.listing.found - self.remaining,
            "left": self.remaining,
            "seconds": self._estimate_seconds(pending),
        }

    def _estimate_seconds(self, pending: list[Shard]) -> float:
        """The seconds that the remaining files should take, measured on a few batches."""
        batches = itertools.islice(self._batches(pending), self.engine.timing_batches)
        started, count = time.perf_counter(), 0
        for rows in self.engine.predict_batches(self.source, batches):
            count += len(rows)
        seconds = time.perf_counter() - started
        return round(seconds * self.remaining / count, 2) if count else 0.0

    def _batches(self, pending: Iterable[Shard]) -> Iterator[list[Entry]]:
        for shard in pending:
            yield from batches(self.listing.files(shard), self.engine.info.batch_size)


def batches(files: list[File], size: int) -> Iterator[list[Entry]]:
    """The files without a reused row, in batches."""
    entries = [file.entry for file in files if file.reused is None]
    for at in range(0, len(entries), size):
        yield entries[at : at + size]


def score_folder(
    source: str, model: str, output: str, store: str | Path, settings: ScoreSettings | None = None
) -> dict[str, Any]:
    """The content of run.json, after the steps of the score flow. Raises as that flow does."""
    settings = settings or ScoreSettings()
    find_model(model, store)  # reports an unknown model before waiting for the lock
    with lock_output(output, settings.wait):
        engine = open_engine(model, store, settings)
        with contextlib.closing(LocalRun(source, output, engine, settings, str(store))) as run:
            for shard in run.pending_shards():
                run.score(shard)
            result = run.merge()
            run.report(result)
    check_error_rate(result)
    return result.as_dict()
