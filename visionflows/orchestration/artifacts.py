"""What a run leaves in the Prefect UI: a summary, a table, a picture where it has a URL.

artifacts.scored(run)                      # run.json
artifacts.trained(info, "store/models/pets/20261123T081500123Z-1a2b3c4d")

A browser opens no file:// and no s3:// link. Where the store is also served over HTTP (a bucket
behind a CDN, a share behind nginx), VISIONFLOWS_STORE_URL says where: places inside the store
then become links, and the confusion matrix an image.
"""

import os

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from visionflows.model.registry import default_store
from visionflows.model.schema import ModelInfo
from visionflows.scoring.schema import RunResult


def scored(run: RunResult) -> None:
    """The summary of a scoring run: its books, class counts, where the time went, its files."""
    create_markdown_artifact(_scoring(run), key="score-summary", description="What was scored")


def trained(info: ModelInfo, where: str) -> None:
    """The metrics by class as a table, a summary, and the confusion matrix where it has a URL."""
    rows = [
        {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
        for row in info.as_dict()["metrics"]["by_class"]
    ]
    create_table_artifact(rows, key="metrics-by-class", description="On the validation images")
    create_markdown_artifact(_training(info, where), key="train-summary", description="The model")
    picture = _url(f"{where}/pictures/confusion.png")
    if picture:
        create_image_artifact(picture, key="confusion", description="Confusion matrix")


def epochs(history: list[dict]) -> None:
    """Losses and metrics as a table, an epoch a row."""
    create_table_artifact(history, key="epochs", description="Losses and metrics, an epoch a row")


def retrained(model: str, verdict: dict) -> None:
    """Whether the new model was promoted, and why."""
    outcome = "promoted" if verdict["better"] else "not promoted"
    note = f"## {model}: {outcome}\n\n{verdict['why'].capitalize()}.\n"
    keys = ("images", "candidate_errors", "production_errors")
    if "images" in verdict:
        note += "\n| | |\n|---|---:|\n"
        note += "".join(f"| {key.replace('_', ' ')} | {verdict[key]} |\n" for key in keys)
    create_markdown_artifact(note, key="retrain-summary", description="Whether it was promoted")


def _scoring(run: RunResult) -> str:
    books, timings = run.books, run.timings
    statuses = {name: count for name, count in books.by_status.items() if name != "ok"}
    names = ("predictions.csv", "report.html", *(["failures.csv"] if books.failed else []))
    files = (f"{run.folder}{name}" for name in names)
    return "\n".join(
        [
            f"## {books.found} files found = {books.ok} ok + {books.failed} failed",
            f"`{run.input}` with {run.model.name}@{run.model.version} on {run.device}",
            "",
            *(f"- {_link(run.output, name)}" for name in files),
            *([run.mixed, ""] if run.mixed else []),
            *_table("label", "files", books.by_label),
            *_table("not scored", "files", statuses),
            "### Where the time went",
            f"{timings.seconds:.1f} s, {timings.images_per_second} images/s; {timings.limit}",
            *_table("stage", "seconds per 1,000", timings.per_1000),
        ]
    )


def _training(info: ModelInfo, where: str) -> str:
    metrics, dataset, training = info.metrics, info.dataset, info.training
    seconds = sum(epoch.seconds for epoch in training.history)
    return "\n".join(
        [
            f"## {info.name}@{info.version}",
            f"{info.architecture} on {dataset.train} images of {len(info.classes)} "
            f"classes, validated on {dataset.valid}: error rate "
            f"**{metrics.error_rate:.4f}**, accuracy **{metrics.accuracy:.4f}**",
            "",
            f"{len(training.history)} epochs in {seconds:.0f} s on {training.device}; "
            f"{dataset.skipped} images left out",
            "",
            f"- {_link(where, 'report.html')}",
            f"- {_link(where, 'model.json')}",
        ]
    )


def _table(left: str, right: str, rows: dict) -> list[str]:
    if not rows:
        return []
    lines = (f"| {_cell(name)} | {value} |" for name, value in rows.items())
    return ["", f"| {left} | {right} |", "|---|---:|", *lines, ""]


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _link(folder: str, name: str) -> str:
    where = f"{folder.rstrip('/')}/{name}"
    url = _url(where)
    return f"[{name}]({url})" if url else f"{name}: `{where}`"


def _url(where: str) -> str:
    """Where a place in the store is served over HTTP; empty where it is not."""
    served, store = os.environ.get("VISIONFLOWS_STORE_URL", ""), default_store().rstrip("/") + "/"
    if not served or not where.startswith(store):
        return ""
    return f"{served.rstrip('/')}/{where.removeprefix(store)}"
