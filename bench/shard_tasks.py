"""The score flow with a Prefect task a shard, by prefect-ray: what `score --on ray` is measured by.

    with connection(settings):                      # the same Ray as the other side's
        score("inbox", "pets", "out", "store", settings, cores=1, ahead=4)

Listing, parts, books and report are those of the product; only how a shard comes to be scored is
another. Ray's workers import this file: what a task calls is found there by its name, so that a
process keeps its engine from one task to the next. What Prefect would walk through, name by name,
is handed over as bytes.
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
from visionflows.inference.backend import EngineInfo
from visionflows.models.artifact import Model, load_model
from visionflows.models.registry import find_model
from visionflows.orchestration.logs import log_to_run
from visionflows.orchestration.progress import Progress
from visionflows.scoring.run import check_error_rate, lock_output
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import location_text

_actors: dict[bytes, ScoringActor] = {}  # of this process: all tasks of a run open the same


def engine_info(how: bytes) -> EngineInfo:
    """The properties of the engine of this process."""
    return _actor(how).info()


def score_shard(shard: int, how: bytes, task: bytes) -> ScoredShard:
    """Score a shard by the engine of this process."""
    scored = _actor(how).score(pickle.loads(task))
    return scored._replace(node=f"process {os.getpid()}")


def _actor(how: bytes) -> ScoringActor:
    if how not in _actors:
        _actors[how] = ScoringActor(*pickle.loads(how))
    return _actors[how]


INFO = task(engine_info, name="info", cache_policy=NO_CACHE)
SHARD = task(score_shard, name="shard", task_run_name="shard {shard}", cache_policy=NO_CACHE)


class TaskPool(ActorPool):
    """To a run what the product's actors are: Prefect tasks, some shards of which Ray has ahead."""

    def __init__(self, model: Model, settings: ScoreSettings, cores: int, ahead: int):
        self.model, self.nodes = model, list_nodes()
        check_nodes(self.nodes, local_paths(model.storage, "model.json"))
        at_once = sum(node.cores // cores for node in self.nodes)
        self._how = pickle.dumps((location_text(model.storage), settings, (cores, at_once)))
        self._cores, self._ahead = cores, ahead * at_once
        self._actors: list[Any] = [None] * at_once
        with remote_options(num_cpus=cores):  # one for each process, which opens its engine
            info = INFO.map([self._how] * at_once).result()[0]
        device = f"prefect-ray: {at_once} tasks at once, {info.device_name}"
        self.info = info._replace(device_name=device)
        self.reset_counts()

    def score(self, tasks: Iterator[ShardTask]) -> Iterator[ScoredShard]:
        """The scored shards as they end."""
        given: dict[Any, Any] = {}
        for shard_task in tasks:
            with remote_options(num_cpus=self._cores):
                future = SHARD.submit(shard_task.shard.index, self._how, pickle.dumps(shard_task))
            given[future.wrapped_future] = future
            if self._ahead and len(given) >= self._ahead:
                yield self._counted(_ended(given))
        while given:
            yield self._counted(_ended(given))

    def _counted(self, scored: ScoredShard) -> ScoredShard:
        self.count(scored)
        return scored


def _ended(given: dict[Any, Any]) -> ScoredShard:
    """The first that ends of what was given to Ray."""
    (reference,), _ = import_ray().wait([*given], num_returns=1)
    return given.pop(reference).result()


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
    """What run.json says. `ahead`: how many shards Ray has for each task that may run; 0: all."""
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
        told = scoring.merge(run)
        scoring.report(run, told)
    check_error_rate(told)
    return told.as_dict()
