"""The tasks of a scoring run: load the model, list what is left, score it by shards, merge, report.

from tasks.scoring import load
engine = load("pets@production", "store", ScoreSettings())
"""

import contextlib
from pathlib import Path

from visionflows.cluster.actor_pool import ActorPool, open_pool
from visionflows.cluster.nodes import connected
from visionflows.cluster.ray_run import RayRun
from visionflows.inference import Engine, open_engine
from visionflows.orchestration import artifacts, events, forked_processes  # noqa: F401 (decoders are forked here)
from visionflows.orchestration.progress import Progress
from visionflows.orchestration.steps import step
from visionflows.scoring.local_run import LocalRun
from visionflows.scoring.run import ScoringRun
from visionflows.scoring.schema import RunResult
from visionflows.scoring.settings import ScoreSettings
from visionflows.scoring.task_batches import ShardBatch


def connect(settings: ScoreSettings) -> contextlib.AbstractContextManager[None]:
    """A connection to the Ray cluster of the settings; none where they say `local`."""
    return contextlib.nullcontext() if settings.on == "local" else connected(settings.on)


def open_engine_or_pool(
    model: str, store: str | Path, settings: ScoreSettings
) -> Engine | ActorPool:
    """What computes: this machine's engine, or actors of the connected cluster."""
    if settings.on == "local":
        return open_engine(model, store, settings)
    return open_pool(model, store, settings)


def make_run(
    source: str, output: str, engine: Engine | ActorPool, settings: ScoreSettings
) -> ScoringRun:
    """A run that computes on this engine, or on these actors."""
    if isinstance(engine, ActorPool):
        return RayRun(source, output, engine, settings)
    return LocalRun(source, output, engine, settings)


load = step(
    open_engine_or_pool,
    name="load",
    task_run_name="load {model}",
    description="Load a model bundle, here or on a cluster; checked against its own self-check.",
)


list_input = step(
    ScoringRun.prepare,
    name="list",
    task_run_name="list",
    description="List what is to score, or begin to, and find what is done already.",
)


@step(
    name="shards",
    task_run_name="shards that are listed meanwhile",
    description="Score the files of a large place while it is still being listed.",
)
def score_while_listing(run: ScoringRun, progress: Progress) -> int:
    """How many files were scored."""
    scored = 0
    for shard in run.shards_while_listing():
        progress.set_total(run.left)
        scored += run.score(shard, progress.advance)
    return scored


@step(
    name="shards",
    task_run_name="{shards}",
    description="Score the files of a few shards, one after the other, and write a part for each.",
)
def score_shards(run: ScoringRun, shards: ShardBatch, progress: Progress) -> int:
    """How many files were scored."""
    return sum(run.score(shard, progress.advance) for shard in shards)


@step(
    name="merge",
    task_run_name="merge",
    description="Join the parts into predictions.csv; the books must balance.",
)
def merge(run: ScoringRun) -> RunResult:
    """What run.json will say."""
    return run.merge()


@step(name="report", task_run_name="report", description="Write report.html, and run.json last.")
def report(run: ScoringRun, told: RunResult) -> None:
    """The page a person opens first, the summary in the UI, and what the server hears of."""
    run.report(told)
    artifacts.create_score_summary(told)
    if run.history.run_record:
        artifacts.create_drift_table(told)
        events.emit_drift(told)
