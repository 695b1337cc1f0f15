"""The score flow with one Prefect task per shard (prefect-ray), to compare with `score --on ray`.

    with connected(settings.on):                   # the same Ray as the other side
        score("inbox", "pets", "out", "store", settings, cores=1, ahead=4)

Listing, parts, counts and report are those of the product; only the scoring of a shard differs.
Ray's workers import this file, so that a process keeps its engine between tasks. Arguments are
pickled, because Prefect would search them for futures name by name.
"""

import os
import pickle
from collections.abc import Iterator
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect_ray import RayTaskRunner
from prefect_ray.context import remote_options

from tasks import scoring
from visionflows.cluster.actor_pool import ActorPool, local_paths
from visionflows.cluster.nodes import check_nodes, import_ray, list_nodes
from visionflows.cluster.ray_run import RayRun
from visionflows.cluster.scoring_actor import ScoredShard, ScoringActor, ShardTask
from visionflows.inference.engine import EngineInfo
from visionflows.models.artifact import Model, load_model
from visionflows.models.registry import find_model
from visionflows.orchestration.logs import log_to_run
from visionflows.orchestration.progress import Progress
from visionflows.scoring.run import check_error_rate, lock_output
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import location_text

_actors: dict[bytes, ScoringActor] = {}  # of this process, shared by all tasks of a run


def engine_info(arguments: bytes) -> EngineInfo:
    """The properties of the engine of this process."""
    return _actor(arguments).info()


def score_shard(shard: int, arguments: bytes, task: bytes) -> ScoredShard:
    """Score a shard with the engine of this process."""
    scored = _actor(arguments).score(pickle.loads(task))
    return scored._replace(node=f"process {os.getpid()}")


def _actor(arguments: bytes) -> ScoringActor:
    if arguments not in _actors:
        _actors[arguments] = ScoringActor(*pickle.loads(arguments))
    return _actors[arguments]


INFO = task(engine_info, name="info", cache_policy=NO_CACHE)
SHARD = task(score_shard, name="shard", task_run_name="shard {shard}", cache_policy=NO_CACHE)


class TaskPool(ActorPool):
    """Prefect tasks in the role of the actor pool, with some shards queued ahead in Ray."""

    def __init__(self, model: Model, settings: ScoreSettings, cores: int, ahead: int):
        self.model, self.nodes = model, list_nodes()
        check_nodes(self.nodes, local_paths(model.storage, "model.json"))
        at_once = sum(node.cores // cores for node in self.nodes)
        self._arguments = pickle.dumps((location_text(model.storage), settings, (cores, at_once)))
        self._cores, self._ahead = cores, ahead * at_once
        self._actors: list[Any] = [None] * at_once
        with remote_options(num_cpus=cores):  # one for each process, to open its engine
            info = INFO.map([self._arguments] * at_once).result()[0]
        device = f"prefect-ray: {at_once} tasks at once, {info.device_name}"
        self.info = info._replace(device_name=device)
        self.reset_counts()

    def score(self, tasks: Iterator[ShardTask]) -> Iterator[ScoredShard]:
        """Yield the scored shards as they finish."""
        submitted: dict[Any, Any] = {}
        for shard_task in tasks:
            with remote_options(num_cpus=self._cores):
                future = SHARD.submit(
                    shard_task.shard.index, self._arguments, pickle.dumps(shard_task)
                )
            submitted[future.wrapped_future] = future
            if self._ahead and len(submitted) >= self._ahead:
                yield self._counted(_first_finished(submitted))
        while submitted:
            yield self._counted(_first_finished(submitted))

    def _counted(self, scored: ScoredShard) -> ScoredShard:
        self.count(scored)
        return scored


def _first_finished(submitted: dict[Any, Any]) -> ScoredShard:
    """Wait for the first task to finish, and return its shard."""
    (reference,), _ = import_ray().wait([*submitted], num_returns=1)
    return submitted.pop(reference).result()


@flow(name="score by tasks", task_runner=RayTaskRunner())
def score(
    input: str,
    model: str,
    output: str,
    store: str,
    settings: ScoreSettings,
    cores: int = 1,
    ahead: int = 0,
) -> dict[str, Any]:
    """Score and return run.json. `ahead`: shards in flight per task; 0: all."""
    log_to_run()
    with lock_output(output, settings.wait):
        engine = TaskPool(load_model(find_model(model, store)), settings, cores, ahead)
        run = RayRun(input, output, engine, settings)
        scoring.list_input(run)
        with Progress("scoring", total=run.remaining) as progress:
            for shard in run.shards_while_listing():
                run.score(shard, progress.advance)
            for shard in run.shards_after_listing():
                run.score(shard, progress.advance)
        result = scoring.merge(run)
        scoring.report(run, result)
    check_error_rate(result)
    return result.as_dict()
