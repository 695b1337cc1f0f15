"""The tasks of the flows: each a plain function of `tasks/` under a Prefect decorator.

They stand here rather than beside the functions, so that a notebook can use every step without
Prefect, and so that names and descriptions can be read on one page. No task is retried by
Prefect: what meets a network (fetch) goes on by itself from the byte it had.
"""

import functools
from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows import artifacts, forked  # noqa: F401 (loader processes are forked in these tasks)
from flows.progress import Progress
from tasks import agreement, bundle, evaluate, fetch, fine_tune, predict, report, shards, table
from tasks.images import MAX_PIXELS
from tasks.learner import TrainSettings
from tasks.listing import Shard
from tasks.predict import Scoring
from tasks.storage import LocalPlace, Place

# What travels between these tasks lies in memory; there is no cached result to look for.
step = functools.partial(task, cache_policy=NO_CACHE)


fetch_dataset = step(
    fetch.fetch,
    name="fetch",
    task_run_name="fetch {dataset}",
    description="Download a dataset, checked and resumed, and unpack it into the store once.",
)

build_table = step(
    table.build_table,
    name="table",
    task_run_name="table",
    description="Open every image once; label, check and split them into a file table.",
)


@step(
    name="fine_tune",
    task_run_name="fine_tune {settings.architecture}",
    description="fastai's fine_tune: freeze, one cycle, unfreeze, one cycle; on the GPU if any.",
)
def fine_tune_network(files, folder: Path, draft: Path, settings: TrainSettings) -> dict:
    """Train, and leave the history as a table in the UI."""
    with Progress("fine-tuning", total=1) as progress:
        record = fine_tune.fine_tune(files, folder, draft, settings, progress.share)
    create_table_artifact(
        record["history"], key="epochs", description="Losses and metrics, an epoch a row"
    )
    return record


evaluate_network = step(
    evaluate.evaluate,
    name="evaluate",
    task_run_name="evaluate",
    description="Metrics and pictures of the network on the validation side.",
)


@step(
    name="agreement",
    task_run_name="agreement",
    description="Score the validation side in float32 and faster; auto needs them to agree.",
)
def compare_precisions(draft: Path, info: dict, files, folder: Path) -> dict:
    """The evidence for --precision auto."""
    valid = files[(files.status == "ok") & files.is_valid]
    model = bundle.Model(LocalPlace(draft), info, digest="")
    return agreement.agreement(model, folder, list(valid.path), MAX_PIXELS)


@step(
    name="publish",
    task_run_name="publish {info[name]}",
    description="Write the model bundle into the store; `latest` means it from now on.",
)
def publish_bundle(draft: Path, store: str, info: dict, files, summary: str) -> str:
    """The report, then the bundle; returns its place."""
    pictures = {path.stem: path.read_bytes() for path in sorted((draft / "pictures").glob("*.png"))}
    (draft / "report.html").write_text(report.training_report(info, pictures, summary))
    where = bundle.publish(draft, store, info, files)
    artifacts.trained(info, where)
    return where


load_model = step(
    predict.open_engine,
    name="load",
    task_run_name="load {model}",
    description="Load a model bundle and check it against its own self-check.",
)


@step(
    name="list",
    task_run_name="list",
    description="List what is to score and find what is done already.",
)
def list_work(scoring: Scoring) -> list[Shard]:
    """The shards that are left."""
    return scoring.prepare()


@step(
    name="shard",
    task_run_name="shard {shard.index}",
    description="Score the files of a shard and write its part.",
)
def score_shard(scoring: Scoring, shard: Shard, progress: Progress) -> int:
    """How many files were scored."""
    return scoring.score(shard, progress.add)


@step(
    name="merge",
    task_run_name="merge",
    description="Join the parts into predictions.csv; the books must balance.",
)
def merge_parts(scoring: Scoring) -> dict:
    """What run.json will say."""
    return scoring.merge()


@step(name="report", task_run_name="report", description="Write report.html, and run.json last.")
def write_report(run: dict, source: Place, output: Place) -> None:
    """The page a person opens first; run.json after it, so that it is never there without."""
    page = report.scoring_report(run, report.collect_samples(run, source, output))
    output.write("report.html", page.encode())
    shards.finish(output, run)
    artifacts.scored(run)
