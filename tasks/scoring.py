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
from visionflows.orchestration.steps import Step, step
from visionflows.scoring.run import ScoringRun
from visionflows.scoring.schema import RunResult
from visionflows.scoring.settings import ScoreSettings


@step(task_run_name="load {model}")
def load(model: str, store: str | Path, settings: ScoreSettings) -> Engine | ActorPool:
    """This machine's engine, or the actors of the connected cluster."""
    if settings.on == "local":
        return open_engine(model, store, settings)
    return open_pool(model, store, settings)


list_input = Step(ScoringRun.prepare, name="list")


@step(name="shards", task_run_name="shards (while listing)")
def score_while_listing(run: ScoringRun, progress: Progress) -> int:
    """Score files of a large input while it is being listed; returns how many were scored."""
    scored = 0
    for shard in run.shards_while_listing():
        progress.set_total(run.remaining)
        scored += run.score(shard, progress.advance)
    return scored


@step(name="shards", task_run_name="{shards}")
def score_shards(run: ScoringRun, shards: ShardBatch, progress: Progress) -> int:
    """Score a few shards, and write a part for each; returns the number of files scored."""
    return sum(run.score(shard, progress.advance) for shard in shards)


merge = Step(ScoringRun.merge)


@step()
def report(run: ScoringRun, result: RunResult) -> None:
    """Write the pages and, last, run.json; create the Prefect artifacts; send the drift event."""
    run.report(result)
    artifacts.create_score_summary(result)
    if run.history.record:
        artifacts.create_drift_table(result)
        events.emit_drift(result)
