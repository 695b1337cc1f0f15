"""The score flow: list -> shards -> predict -> predictions.csv -> report.

visionflows score inbox --model pets --output scores/night
python -c 'from flows.score import score; score("inbox", "pets", "scores/night")'
"""

from prefect import flow
from prefect.context import get_run_context
from prefect.runtime import flow_run

from flows import steps
from flows.logs import to_prefect
from flows.notify import tell
from flows.progress import Progress
from tasks.bundle import default_store
from tasks.predict import ScoreSettings, Scoring, check_errors

DEFAULTS = ScoreSettings()


def _name() -> str:
    return "score {input} with {model}".format(**flow_run.parameters)


@flow(
    name="score",
    flow_run_name=_name,
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
) -> dict:
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
    """A place in the store that is this flow run's own: the same one when the run is retried."""
    run = get_run_context().flow_run
    return f"{store.rstrip('/')}/scores/{run.created:%Y%m%dT%H%M%SZ}-{run.id.hex[-8:]}"
