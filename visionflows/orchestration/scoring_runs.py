"""A scoring run of a flow: on this machine or on Ray, its shards in a bounded number of tasks."""

from collections.abc import Iterator, Sequence

from visionflows.cluster.actor_pool import ActorPool
from visionflows.cluster.ray_run import RayRun
from visionflows.inference import Engine
from visionflows.scoring.listing import Shard
from visionflows.scoring.local_run import LocalRun
from visionflows.scoring.run import ScoringRun
from visionflows.scoring.settings import ScoreSettings

MAX_TASKS = 100  # task runs that score shards, in a flow run


def make_run(
    source: str, output: str, engine: Engine | ActorPool, settings: ScoreSettings, store: str
) -> ScoringRun:
    """A run that computes on this engine, or on these actors."""
    if isinstance(engine, ActorPool):
        return RayRun(source, output, engine, settings, store)
    return LocalRun(source, output, engine, settings, store)


class ShardBatch(tuple[Shard, ...]):
    """Consecutive shards that one task run scores; its text names them."""

    def __str__(self) -> str:
        first, last = self[0].index, self[-1].index
        return f"shard {first}" if first == last else f"shards {first} to {last}"


def batch_shards(shards: Sequence[Shard], most: int = MAX_TASKS) -> Iterator[ShardBatch]:
    """The shards in order, in at most so many batches of about the same size."""
    size = max(-(-len(shards) // most), 1)
    for at in range(0, len(shards), size):
        yield ShardBatch(shards[at : at + size])
