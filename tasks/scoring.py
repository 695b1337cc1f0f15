"""The tasks of a scoring run: load the model, list what is left, score it by shards, merge, report.

from tasks.scoring import load
engine = load("pets@production", "store", ScoreSettings())
"""

from visionflows.cluster.ray_run import open_on
from visionflows.orchestration import artifacts, events, forked_processes  # noqa: F401 (decoders are forked here)
from visionflows.orchestration.progress import Progress
from visionflows.orchestration.steps import step
from visionflows.scoring.base_run import Run
from visionflows.scoring.schema import RunResult
from visionflows.scoring.task_batches import Group

load = step(
    open_on,
    name="load",
    task_run_name="load {model}",
    description="Load a model bundle, here or on a cluster; checked against its own self-check.",
)


list_left = step(
    Run.prepare,
    name="list",
    task_run_name="list",
    description="List what is to score, or begin to, and find what is done already.",
)


@step(
    name="shards",
    task_run_name="shards that are listed meanwhile",
    description="Score the files of a large place while it is still being listed.",
)
def score_coming(run: Run, progress: Progress) -> int:
    """How many files were scored."""
    scored = 0
    for shard in run.coming():
        progress.set_total(run.left)
        scored += run.score(shard, progress.advance)
    return scored


@step(
    name="shards",
    task_run_name="{shards}",
    description="Score the files of a few shards, one after the other, and write a part for each.",
)
def score_shards(run: Run, shards: Group, progress: Progress) -> int:
    """How many files were scored."""
    return sum(run.score(shard, progress.advance) for shard in shards)


@step(
    name="merge",
    task_run_name="merge",
    description="Join the parts into predictions.csv; the books must balance.",
)
def merge(run: Run) -> RunResult:
    """What run.json will say."""
    return run.merge()


@step(name="report", task_run_name="report", description="Write report.html, and run.json last.")
def report(run: Run, told: RunResult) -> None:
    """The page a person opens first, the summary in the UI, and what the server hears of."""
    run.report(told)
    artifacts.create_score_summary(told)
    if run.history.run_record:
        artifacts.create_drift_table(told)
        events.emit_drift(told)
