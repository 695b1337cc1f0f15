"""The score flow: load -> list -> shards -> merge -> report."""

import contextlib
from typing import Annotated, Any

from tasks import scoring
from visionflows.cluster.nodes import connected
from visionflows.errors import SettingsError
from visionflows.models.registry import default_store, find_model
from visionflows.orchestration import parameters
from visionflows.orchestration.flow_runs import default_output
from visionflows.orchestration.output_lock import wait_for_output
from visionflows.orchestration.progress import Progress
from visionflows.orchestration.scoring_runs import batch_shards, make_run
from visionflows.orchestration.steps import flow
from visionflows.scoring.run import check_error_rate
from visionflows.scoring.settings import ScoreSettings

DEFAULTS = ScoreSettings()
INPUT = "Folder or s3:// URI of the images, or a .txt or .csv file that lists them."
OUTPUT = f"{parameters.OUTPUT} The output of an interrupted run resumes that run."
SETTINGS = "Advanced: speed, precision, resuming, and how many files may fail."


@flow(
    flow_run_name="score {input} with {model}",
    description="Score every image in a location into predictions.csv, one row for each.",
    reports_failure=True,
)
def score(
    input: Annotated[str, INPUT],
    model: Annotated[str, parameters.MODEL],
    output: Annotated[str, OUTPUT] = "",
    store: Annotated[str, parameters.STORE] = "",
    settings: Annotated[ScoreSettings, SETTINGS] = DEFAULTS,
) -> dict[str, Any]:
    """The content of run.json.

    Raises a VisionflowsError if the result is incomplete, or if more files failed than the settings
    allow.
    """
    store = store or default_store()
    if not input:
        raise SettingsError("input: empty; name a folder (the `location` of an announced batch)")
    find_model(model, store)  # fails at once, not after a wait for the lock
    output = output or default_output(store)
    # The model is loaded after the lock, so that a waiting run uses no memory for it.
    with wait_for_output(output, settings.wait), connected(settings.on):
        engine = scoring.load(model, store, settings)
        with contextlib.closing(make_run(input, output, engine, settings, store)) as run:
            scoring.list_input(run)
            with Progress("scoring", total=run.remaining) as progress:
                if not run.is_listed:
                    scoring.score_while_listing(run, progress)
                left = run.shards_after_listing()
                progress.set_total(run.remaining)
                for shards in batch_shards(left):
                    scoring.score_shards(run, shards, progress)
            result = scoring.merge(run)
            scoring.report(run, result)
    check_error_rate(result)
    return result.as_dict()
