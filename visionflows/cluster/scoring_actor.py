"""A scoring actor: it loads the model once, and scores shards into their parts, without Ray."""

import os
import socket
import time
from importlib import metadata
from typing import NamedTuple

from visionflows.errors import RunError, SettingsError, StorageError
from visionflows.inference import open_engine
from visionflows.inference.engine import Backend, Engine, EngineInfo
from visionflows.scoring.input_source import Source
from visionflows.scoring.job import Job
from visionflows.scoring.listing import File, Shard
from visionflows.scoring.local_run import batches
from visionflows.scoring.parts import write_part
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import open_storage
from visionflows.system import set_share


class ShardTask(NamedTuple):
    """A shard to score, where its run reads and writes, and what shows that a node sees that."""

    shard: Shard
    files: list[File]
    job: Job
    backends: list[Backend]  # of reused rows
    root: str
    sample: list[str]  # input files on a disk; a node must see one
    output: str
    marker: str  # a file in the output while this run owns it
    version: str  # of visionflows


class ScoredShard(NamedTuple):
    """A scored shard: its index, the files scored, the node, and seconds by stage and in total."""

    shard: int
    files: int
    node: str
    stages: dict[str, float]
    seconds: float
    forwarded: int


class ScoringActor:
    """Opens its engine when first needed; `share` is its cores, and the actors on its node."""

    def __init__(self, model: str, settings: ScoreSettings, share: tuple[int, int]):
        self._model, self._settings = model, settings
        self._engine: Engine | None = None
        self._sources: dict[str, Source] = {}
        set_share(*share)

    def info(self) -> EngineInfo:
        """The properties of its engine. Raises as `open_engine`."""
        return self._open(self._settings).info

    def ready(self) -> None:
        """Return as soon as the actor is alive."""

    def score(self, task: ShardTask) -> ScoredShard:
        """Score a shard and write its part.

        Raises StorageError; RunError if files are unseen, or another precision is chosen here.
        """
        started, source = time.perf_counter(), self._open_source(task)
        choice = task.job.settings.model_dump(include={"batch_size"})
        engine = self._open(self._settings.model_copy(update=choice))
        _check_precision(engine.info.backend, task.job.settings.precision)
        todo = batches(task.files, engine.info.batch_size)
        rows = [row for batch in engine.predict_batches(source.storage, todo) for row in batch]
        source.check_unchanged()  # else files of an unmounted disk would count as missing
        backends, files = _add_backend(engine.info.backend, task)
        _check_marker(task)
        write_part(open_storage(task.output), task.job, task.shard, files, rows, backends)
        stages, forwarded = engine.seconds, engine.forwarded
        engine.seconds, engine.forwarded = dict.fromkeys(stages, 0.0), 0
        seconds = time.perf_counter() - started
        shard, node = task.shard.index, socket.gethostname()
        return ScoredShard(shard, len(rows), node, stages, seconds, forwarded)

    def _open(self, settings: ScoreSettings) -> Engine:
        if self._engine is None:
            self._engine = open_engine(self._model, "", settings)
        return self._engine

    def _open_source(self, task: ShardTask) -> Source:
        """The input. Checked here too, because a node may have joined after `check_nodes`."""
        if task.root not in self._sources:
            node, version = socket.gethostname(), metadata.version("visionflows")
            if version != task.version:
                raise SettingsError(
                    f"node {node} has visionflows {version}, not {task.version}; install "
                    f"{task.version}"
                )
            if task.sample and not any(map(os.path.exists, task.sample)):
                raise StorageError(
                    f"{task.root}: node {node} does not see its files; mount it there, and run "
                    "again to continue"
                )
            _check_marker(task)
            self._sources[task.root] = Source(task.root)
            self._sources[task.root].check_exists()
        return self._sources[task.root]


def _check_precision(backend: Backend, wanted: str) -> None:
    """Raise RunError if `auto` chooses another precision on this node than on the first one."""
    if backend.precision != wanted:
        raise RunError(
            f"node {socket.gethostname()}: --precision auto is {backend.precision} here, as the "
            f"agreement of {wanted} was not measured on its kind of processor ({backend.device}); "
            "run again with --precision float32"
        )


def _check_marker(task: ShardTask) -> None:
    if not open_storage(task.output).exists(task.marker):
        raise RunError(
            f"{task.output}: another run owns it now, or node {socket.gethostname()} does not see "
            "it; nothing was written: run again to continue"
        )


def _add_backend(own: Backend, task: ShardTask) -> tuple[list[Backend], list[File]]:
    """The backends of a shard's rows, this engine's first, and its files with indices of them."""
    backends = [own, *(backend for backend in task.backends if backend != own)]
    indices = [backends.index(backend) for backend in task.backends]
    return backends, [
        file._replace(reused=file.reused._replace(backend=indices[file.reused.backend]))
        if file.reused
        else file
        for file in task.files
    ]
