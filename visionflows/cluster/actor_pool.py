"""The actor pool of a run on Ray: each actor has the model and scores shards until none is left."""

import collections
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visionflows.cluster.nodes import Node, check_nodes, import_ray, list_nodes
from visionflows.cluster.scoring_actor import ScoredShard, ScoringActor, ShardTask
from visionflows.errors import RunError, ServerError, SettingsError, VisionflowsError, one_line
from visionflows.models.artifact import Model, load_model
from visionflows.models.registry import find_model
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import location_text
from visionflows.storage.base import Storage

log = logging.getLogger("visionflows.cluster")

TASKS_PER_ACTOR = 2  # one that it computes, and one that is queued
MAX_DEATHS = 5  # of actors with one shard in flight, or of one actor that does not start
PATIENCE = 30.0  # seconds without a result until a warning is logged


def place_actors(nodes: list[Node], settings: ScoreSettings) -> tuple[int, int, list[int]]:
    """The cores and GPUs of an actor, and how many actors each node gets. Raises SettingsError.

    One actor per GPU, else actors with the cores of the smallest node.
    """
    with_gpu = [node for node in nodes if node.gpus]
    openvino = settings.engine == "openvino" or settings.precision == "int8"
    if settings.device == "cuda" or (with_gpu and settings.device == "auto" and not openvino):
        most = min((node.cores // node.gpus for node in with_gpu), default=1)
        cores, gpus = settings.actor_cores or max(most, 1), 1
        counts = [min(node.cores // cores, node.gpus) for node in nodes]
    else:
        cores, gpus = settings.actor_cores or min(node.cores for node in nodes if node.cores), 0
        counts = [node.cores // cores for node in nodes]
    if not sum(counts):
        raise SettingsError(
            f"on {settings.on}: no node has {cores} cores{' and a GPU' if gpus else ''} for an "
            "actor; give another --actor-cores or --device"
        )
    return cores, gpus, counts


class ActorPool:
    """Scoring actors, as the engine of a run (`scoring.job.AnyEngine`).

    `seconds` are those of an actor on average; `by_node` has the files and seconds of each node.
    """

    def __init__(self, model: Model, settings: ScoreSettings):
        self.model, self.nodes = model, list_nodes()
        check_nodes(self.nodes, local_paths(model.storage, "model.json"))
        cores, gpus, counts = place_actors(self.nodes, settings)
        options = {"num_cpus": cores, "num_gpus": gpus, "max_restarts": -1}
        actor = import_ray().remote(scheduling_strategy="SPREAD", **options)(ScoringActor)
        arguments = location_text(model.storage), settings, (cores, max(counts))
        self._actors = [actor.remote(*arguments) for _ in range(sum(counts))]
        info = wait_for_actor(self._actors[0].info.options(max_task_retries=-1).remote())
        nodes = sum(count > 0 for count in counts)
        device = f"Ray: {len(self._actors)} actors on {nodes} nodes, {info.device_name}"
        self.info = info._replace(device_name=device)
        self.reset_counts()

    def reset_counts(self) -> None:
        self.seconds = dict.fromkeys(("read", "decode", "transfer", "forward"), 0.0)
        self.forwarded = 0
        self.by_node: dict[str, tuple[int, float]] = {}

    def score(self, tasks: Iterator[ShardTask]) -> Iterator[ScoredShard]:
        """The scored shards as they end; tasks are taken a few ahead."""
        for scored in InFlightTasks(self._actors, tasks).results():
            self.count(scored)
            yield scored

    def count(self, scored: ScoredShard) -> None:
        for stage, seconds in scored.stages.items():
            self.seconds[stage] += seconds / len(self._actors)
        self.forwarded += scored.forwarded
        files, seconds = self.by_node.get(scored.node, (0, 0.0))
        self.by_node[scored.node] = files + scored.files, seconds + scored.seconds


def open_pool(model: str, store: str | Path, settings: ScoreSettings) -> ActorPool:
    """The actors of a model, such as `pets@production` in a store, on the connected cluster."""
    pool = ActorPool(load_model(find_model(model, store)), settings)
    info = pool.info
    log.info("%s on %s, %s", pool.model.name, info.device_name, info.backend.precision)
    return pool


def local_paths(storage: Storage, *names: str) -> list[str]:
    """The paths of files on a disk; none for S3, which all nodes see."""
    return [os.path.join(location_text(storage), name) for name in names if storage.is_local]


def wait_for_actor(reference: Any) -> Any:
    """The result of an actor that Ray may have to schedule first. Raises as `_result`, RunError."""
    while not _wait([reference]):
        log.warning("waiting for Ray to schedule an actor (see `ray status`)")
    try:
        return _result(reference)
    except import_ray().exceptions.RayError as error:
        raise _no_actor_starts(_last_line(error)) from error


def _wait(references: list[Any]) -> list[Any]:
    """The first reference that is ready within PATIENCE seconds, if any. Raises ServerError."""
    try:
        ready, _ = import_ray().wait(references, num_returns=1, timeout=PATIENCE)
    except Exception as error:  # Ray's client raises plain exceptions for a lost connection
        raise _connection_lost(error) from error
    return list(ready)


def _no_actor_starts(why: str) -> RunError:
    return RunError(
        f"on ray: no actor starts ({why}); check that every node can import visionflows and has "
        "the resources of an actor, and run again to continue"
    )


def _last_line(error: Exception) -> str:
    """The last line of Ray's message, which has the actor's own error."""
    lines = str(error).strip().splitlines()
    return one_line((lines or [type(error).__name__])[-1].strip())


def _connection_lost(error: Exception) -> ServerError:
    return ServerError(
        f"on ray: the connection to the cluster is lost ({one_line(str(error))}); run the same "
        "command again to continue"
    )


def _result(reference: Any) -> Any:
    """The result of a task. Raises errors of visionflows as they are, and RayError if it died."""
    ray = import_ray()
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, VisionflowsError):
            raise type(cause)(f"on a node of the cluster: {cause}") from None
        raise RunError(
            f"on a node of the cluster: {type(cause).__name__}: {one_line(str(cause))}; run the "
            "same command again to continue, or with --on local to see more"
        ) from error
    except ConnectionError as error:
        raise _connection_lost(error) from error


class InFlightTasks:
    """Which actor has which tasks in flight. A starting actor has none."""

    def __init__(self, actors: list[Any], tasks: Iterator[ShardTask]):
        self._tasks, self._has_more = tasks, True
        self._retries: collections.deque[ShardTask] = collections.deque()
        self._free: collections.deque[Any] = collections.deque()
        self._in_flight: dict[Any, tuple[Any, ShardTask | None]] = {}  # None: it is starting
        self._deaths: collections.Counter[Any] = collections.Counter()  # by shard or actor
        self._last_error = ""
        self._starting: set[Any] = set()
        for actor in actors:
            self._wait_until_ready(actor)

    def results(self) -> Iterator[ScoredShard]:
        while True:
            self._submit()
            working = any(task for _, task in self._in_flight.values())
            if not (working or self._retries or self._has_more):
                return
            if not self._in_flight:
                raise _no_actor_starts(self._last_error)
            ready = _wait([*self._in_flight])
            if not (ready or working):
                log.warning("no actor is alive: waiting for Ray to schedule one (see `ray status`)")
            for reference in ready:
                if scored := self._take(reference):
                    yield scored

    def _submit(self) -> None:
        while self._free:
            task = self._retries.popleft() if self._retries else next(self._tasks, None)
            if task is None:
                self._has_more = False
                return
            actor = self._free.popleft()
            self._in_flight[actor.score.remote(task)] = actor, task

    def _wait_until_ready(self, actor: Any) -> None:
        """Give an actor tasks as soon as it is alive."""
        self._starting.add(actor)
        self._in_flight[actor.ready.options(max_task_retries=-1).remote()] = actor, None

    def _take(self, reference: Any) -> ScoredShard | None:
        actor, task = self._in_flight.pop(reference)
        try:
            scored: ScoredShard | None = _result(reference)
        except import_ray().exceptions.RayError as error:
            self._handle_death(actor, task, _last_line(error))
            return None
        if task is None:
            self._starting.discard(actor)
            self._free.extend([actor] * TASKS_PER_ACTOR)
        elif actor not in self._starting:
            self._free.append(actor)
        return scored

    def _handle_death(self, actor: Any, task: ShardTask | None, why: str) -> None:
        """Give the task to another actor, as Ray may wait long for a node to restart this one."""
        self._free = collections.deque(free for free in self._free if free is not actor)
        if task is None:
            self._last_error = why
            self._deaths[actor] += 1
            log.warning("an actor does not start (%s)", why)
            if self._deaths[actor] < MAX_DEATHS:
                self._wait_until_ready(actor)
            return
        if actor not in self._starting:
            self._wait_until_ready(actor)
        self._retries.append(task)
        shard = task.shard.index
        self._deaths[shard] += 1
        log.warning(
            "shard %d: resubmitted to another actor, because its actor died (%s)", shard, why
        )
        if self._deaths[shard] == MAX_DEATHS:
            raise RunError(
                f"shard {shard}: {MAX_DEATHS} actors died while scoring it ({why}); give actors "
                "more memory, or score the shard with --on local to see why"
            )
