"""The score flow: list -> shards -> predict -> predictions.csv -> report.

visionflows score inbox --model pets --output scores/night
python -c 'from flows.score import score; score("inbox", "pets", "scores/night")'
"""

import datetime

from prefect import flow
from prefect.runtime import flow_run

from flows import steps
from flows.logs import to_prefect
from tasks.bundle import default_store
from tasks.predict import ScoreSettings, Scoring
from tasks.storage import place


def _name() -> str:
    return "score {input} with {model}".format(**flow_run.parameters)


@flow(
    name="score",
    flow_run_name=_name,
    description="Score every image in a place with a model: a CSV with one row for every file.",
    validate_parameters=True,
)
def score(
    input: str,
    model: str,
    output: str | None = None,
    store: str | None = None,
    settings: ScoreSettings | None = None,
    restart: bool = False,
) -> dict:
    """What run.json says. `output` is by default scores/<time> in the store.

    Raises a VisionflowsError, in one line, where the run cannot be trusted to be whole.
    """
    to_prefect()
    store, settings = store or default_store(), settings or ScoreSettings()
    stamp = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}"
    source, target = place(input), place(output or f"{store}/scores/{stamp}")
    target.check_writable()
    engine = steps.load_model(model, store, settings)
    scoring = Scoring(source, target, engine, settings)
    with target.lock(".lock"):
        try:
            return _scored(scoring, restart)
        finally:
            scoring.close()


def _scored(scoring: Scoring, restart: bool) -> dict:
    left = steps.list_work(scoring, restart)
    progress = steps.Progress("scoring")
    scored, total = 0, sum(shard.count for shard in left)
    for shard in left:
        scored += steps.score_shard(scoring, shard)
        progress(scored / total)
    run = steps.merge_parts(scoring)
    steps.write_report(run, scoring.source, scoring.output)
    return run
