"""What an actor does: it loads the model once, and scores shards into their parts.

    scorer = Scorer(str(model.place), settings, (2, 1))
    scorer.score(Work(shard, files, job, (), there))

It knows nothing of Ray. What travels are places, names and records; rows go to the output itself.
"""

import os
import socket
import time
from importlib import metadata
from typing import NamedTuple

from visionflows.errors import RunError, SettingsError, StorageError
from visionflows.inference import open_engine
from visionflows.inference.backend import Backend, EngineInfo
from visionflows.inference.engine import Engine
from visionflows.scoring.input_source import Source
from visionflows.scoring.job import Job
from visionflows.scoring.listing import File, Shard
from visionflows.scoring.local_run import batches
from visionflows.scoring.parts import write_part
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import open_storage
from visionflows.system import set_share


class There(NamedTuple):
    """Where a run reads and writes, and what tells an actor, on any node, that it is there.

    `some`: paths of files on a disk, of which one at least must be there; `mark`: what lies in the
    output as long as it is this run's; `version`: of visionflows.
    """

    root: str
    some: list[str]
    output: str
    mark: str
    version: str


class Work(NamedTuple):
    """A shard to score: its files, the job, what computed the rows it has, where all that lies."""

    shard: Shard
    files: list[File]
    job: Job
    backends: list[Backend]
    there: There


class Scored(NamedTuple):
    """A shard that is scored: how many files had to be, where, and the seconds of its stages."""

    shard: int
    files: int
    node: str
    seconds: dict[str, float]
    took: float
    forwarded: int


class ScoringActor:
    """An engine that is opened when it is first needed; an actor that is placed anew has none."""

    def __init__(self, model: str, settings: ScoreSettings, of_node: tuple[int, int]):
        self._model, self._settings = model, settings
        self._engine: Engine | None = None
        self._sources: dict[str, Source] = {}
        set_share(*of_node)

    def info(self) -> EngineInfo:
        """The properties of its engine. Raises what `open_engine` raises."""
        return self._opened(self._settings).info

    def ready(self) -> None:
        """Nothing, once it lives."""

    def score(self, work: Work) -> Scored:
        """Score a shard and write its part.

        Raises RunError or PlaceError where this node does not see the run's input or output.
        """
        began, source = time.perf_counter(), self._source(work.there)
        engine = self._engine_of(work.job)
        todo = batches(work.files, engine.batch_size)
        rows = [row for batch in engine.stream(source.storage, todo) for row in batch]
        source.check()  # before rows of files that are only away for a while are believed
        backends, files = _with_backend(engine.info.backend, work)
        _check_mark(work.there)
        write_part(open_storage(work.there.output), work.job, work.shard, files, rows, backends)
        seconds, forwarded = engine.seconds, engine.forwarded
        engine.seconds, engine.forwarded = dict.fromkeys(seconds, 0.0), 0
        took = time.perf_counter() - began
        return Scored(work.shard.index, len(rows), socket.gethostname(), seconds, took, forwarded)

    def _engine_of(self, job: Job) -> Engine:
        """The engine in the job's precision: what `auto` is here may be another than elsewhere."""
        settled = {"precision": job.settings.precision, "batch_size": job.settings.batch_size}
        return self._opened(self._settings.model_copy(update=settled))

    def _opened(self, settings: ScoreSettings) -> Engine:
        if self._engine is None:
            self._engine = open_engine(self._model, "", settings)
        return self._engine

    def _source(self, there: There) -> Source:
        """The input, seen from here. A node may have come since the nodes were asked."""
        if there.root not in self._sources:
            check_version(there.version)
            if there.some and not any(map(os.path.exists, there.some)):
                raise StorageError(
                    f"{there.root}: node {socket.gethostname()} does not see its files; mount it "
                    "there, and run again to go on"
                )
            _check_mark(there)
            self._sources[there.root] = Source(there.root)
            self._sources[there.root].there()
        return self._sources[there.root]


def check_version(wanted: str) -> None:
    """Nothing, where this is the visionflows of whoever asks. Raises SettingsError."""
    ours = metadata.version("visionflows")
    if ours != wanted:
        name = socket.gethostname()
        raise SettingsError(f"node {name} has visionflows {ours}, not {wanted}; install that there")


def _check_mark(there: There) -> None:
    if not open_storage(there.output).exists(there.mark):
        raise RunError(
            f"{there.output}: another run has it by now, or node {socket.gethostname()} does not "
            "see it; nothing was written: run again to go on"
        )


def _with_backend(ours: Backend, work: Work) -> tuple[list[Backend], list[File]]:
    """The backends of a shard's rows, this engine's first, and its files with indices into them."""
    backends = [ours, *(one for one in work.backends if one != ours)]
    at = [backends.index(one) for one in work.backends]
    files = [
        file._replace(kept=file.kept._replace(by=at[file.kept.by])) if file.kept else file
        for file in work.files
    ]
    return backends, files
