"""The score flow: list -> shards -> predict -> predictions.csv -> report.

visionflows score inbox --model pets --output scores/night
python -c 'from flows.score import score; score("inbox", "pets", "scores/night")'
"""

import datetime

from prefect import flow
from prefect.runtime import flow_run

from flows import steps
from flows.logs import to_prefect
from flows.progress import Progress
from tasks.bundle import default_store
from tasks.predict import ScoreSettings, Scoring, check_errors


def _name() -> str:
    return "score {input} with {model}".format(**flow_run.parameters)


@flow(
    name="score",
    flow_run_name=_name,
    description="Score every image in a place: a CSV with one row for every file.",
    validate_parameters=True,
)
def score(
    input: str,
    model: str,
    output: str | None = None,
    store: str | None = None,
    settings: ScoreSettings | None = None,
) -> dict:
    """What run.json says. `output` is by default scores/<time> in the store.

    Raises a VisionflowsError, in one line, where the run cannot be trusted to be whole, or more
    files failed than it allows.
    """
    to_prefect()
    store, settings = store or default_store(), settings or ScoreSettings()
    engine = steps.load_model(model, store, settings)
    with Scoring(input, output or default_output(store), engine, settings).alone() as scoring:
        left = steps.list_work(scoring)
        with Progress("scoring", total=scoring.left) as progress:
            for shard in left:
                steps.score_shard(scoring, shard, progress)
        run = steps.merge_parts(scoring)
        steps.write_report(run, scoring.source, scoring.output)
    check_errors(run)
    return run


def default_output(store: str) -> str:
    """A place in the store that no other run has."""
    return f"{store.rstrip('/')}/scores/{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S%fZ}"
