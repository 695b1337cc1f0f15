"""The tasks of a scoring run: load the model, list the input, score shards, merge, report."""

from pathlib import Path

from visionflows.cluster.actor_pool import ActorPool, open_pool
from visionflows.inference import Engine, open_engine
from visionflows.orchestration import (
    artifacts,
    events,
    forked_processes,  # noqa: F401 (decoders are forked here)
)
from visionflows.orchestration.progress import Progress
from visionflows.orchestration.scoring_runs import ShardBatch
from visionflows.orchestration.steps import step
from visionflows.scoring.run import ScoringRun
from visionflows.scoring.schema import RunResult
from visionflows.scoring.settings import ScoreSettings


@step(
    task_run_name="load {model}",
    description="Load a model artifact, here or on a cluster, and verify its self-check.",
)
def load(model: str, store: str | Path, settings: ScoreSettings) -> Engine | ActorPool:
    """This machine's engine, or the actors of the connected cluster."""
    if settings.on == "local":
        return open_engine(model, store, settings)
    return open_pool(model, store, settings)


list_input = step(
    ScoringRun.prepare,
    name="list",
    description="List the input, or start to, and find the shards that are already scored.",
)


@step(
    name="shards",
    task_run_name="shards (while listing)",
    description="Score the files of a large input while it is still being listed.",
)
def score_while_listing(run: ScoringRun, progress: Progress) -> int:
    """The number of files scored."""
    scored = 0
    for shard in run.shards_while_listing():
        progress.set_total(run.remaining)
        scored += run.score(shard, progress.advance)
    return scored


@step(
    name="shards",
    task_run_name="{shards}",
    description="Score the files of a few shards, and write a part for each.",
)
def score_shards(run: ScoringRun, shards: ShardBatch, progress: Progress) -> int:
    """The number of files scored."""
    return sum(run.score(shard, progress.advance) for shard in shards)


merge = step(
    ScoringRun.merge,
    description="Join the parts into predictions.csv, and check that every file is accounted for.",
)


@step(description="Write report.html, and run.json last.")
def report(run: ScoringRun, result: RunResult) -> None:
    """Write the pages and run.json, the Prefect artifacts, and the drift event."""
    run.report(result)
    artifacts.create_score_summary(result)
    if run.history.record:
        artifacts.create_drift_table(result)
        events.emit_drift(result)
