"""The score flow: load -> list -> shards -> merge -> report.

visionflows score inbox --model pets --output scores/night
python -c 'from flows.score import score; score("inbox", "pets", "scores/night")'
"""

from typing import Any

from prefect import flow

from tasks import scoring
from visionflows.model.registry import default_store, find
from visionflows.orchestration.logs import to_prefect
from visionflows.orchestration.notify import tell
from visionflows.orchestration.progress import Progress
from visionflows.orchestration.runs import called, default_output
from visionflows.scoring.run import ScoringRun, alone, check_errors
from visionflows.scoring.settings import ScoreSettings

DEFAULTS = ScoreSettings()


@flow(
    name="score",
    flow_run_name=called("score {input} with {model}"),
    description="Score every image in a place: a CSV with one row for every file.",
    validate_parameters=True,
    on_failure=[tell],
    on_crashed=[tell],
)
def score(
    input: str,
    model: str,
    output: str = "",
    store: str = "",
    settings: ScoreSettings = DEFAULTS,
) -> dict[str, Any]:
    """What run.json says.

    Raises a VisionflowsError, in one line, where the run cannot be trusted to be whole, or more
    files failed than it allows. The lines below are what the run form says.

    Args:
        input: The folder or s3://bucket/prefix of images, or a .txt or .csv that lists them.
        model: pets, pets@production, pets@VERSION, or the place of a bundle.
        output: Where predictions.csv goes; empty for a folder of this run's own in the store.
            A run into the output of one that was cancelled or died goes on where that one was.
        store: Where runs keep what they make; empty for the worker's own.
        settings: Advanced: speed, precision, resuming, and how many files may fail.
    """
    to_prefect()
    store, settings = store or default_store(), settings or DEFAULTS
    output = output or default_output(store)
    find(model, store)  # a wrong name is told at once, not after a wait for the lock
    with alone(output, settings.wait):
        engine = scoring.load(model, store, settings)
        run = ScoringRun(input, output, engine, settings)
        left = scoring.list_left(run)
        with Progress("scoring", total=run.left) as progress:
            for shard in left:
                scoring.score_shard(run, shard, progress)
        told = scoring.merge(run)
        scoring.report(run, told)
    check_errors(told)
    return told.as_dict()
