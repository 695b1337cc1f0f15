"""The score flow: load -> list -> shards -> merge -> report.

visionflows score inbox --model pets --output scores/night
python -c 'from flows.score import score; score("inbox", "pets", "scores/night")'
"""

import contextlib
from typing import Any

from tasks import scoring
from visionflows.errors import SettingsError
from visionflows.models.registry import default_store, find
from visionflows.orchestration.flow_runs import default_output, run_name
from visionflows.orchestration.notifications import report_failure
from visionflows.orchestration.progress import Progress
from visionflows.orchestration.steps import flow
from visionflows.scoring.run import check_error_rate, lock_output
from visionflows.scoring.settings import ScoreSettings
from visionflows.scoring.task_batches import batch_shards

DEFAULTS = ScoreSettings()


@flow(
    name="score",
    flow_run_name=run_name("score {input} with {model}"),
    description="Score every image in a place: a CSV with one row for every file.",
    on_failure=[report_failure],
    on_crashed=[report_failure],
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
    store, settings = store or default_store(), settings or DEFAULTS
    if not input:
        raise SettingsError("input: empty; name a folder (the `location` of an announced batch)")
    find(model, store)  # a wrong name is told at once, not after a wait for the lock
    output = output or default_output(store)
    # A run that waits for its output holds no model meanwhile.
    with lock_output(output, settings.wait), scoring.connect(settings):
        engine = scoring.load(model, store, settings)
        with contextlib.closing(scoring.make_run(input, output, engine, settings)) as run:
            scoring.list_input(run)
            with Progress("scoring", total=run.left) as progress:
                if not run.listed:
                    scoring.score_while_listing(run, progress)
                left = run.shards_after_listing()
                progress.set_total(run.left)
                for shards in batch_shards(left):
                    scoring.score_shards(run, shards, progress)
            told = scoring.merge(run)
            scoring.report(run, told)
    check_error_rate(told)
    return told.as_dict()
