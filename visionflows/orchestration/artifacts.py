"""What a flow run leaves in the Prefect UI: a summary, a table, a picture where it has a URL.

artifacts.create_score_summary(run)                      # run.json
artifacts.create_training_summary(info, "store/models/pets/20261123T081500123Z-1a2b3c4d")

A browser opens no file:// and no s3:// link. Where the store is also served over HTTP (a bucket
behind a CDN, a share behind nginx), VISIONFLOWS_STORE_URL says where: places inside the store
then become links, and the confusion matrix an image. Outside a flow run nothing is left; where the
server is away, a warning.
"""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from visionflows.models.registry import default_store
from visionflows.models.schema import ModelInfo
from visionflows.monitoring.run_records import Drift
from visionflows.orchestration.best_effort import shown
from visionflows.orchestration.flow_runs import in_run
from visionflows.scoring.schema import RunResult


def create_score_summary(run: RunResult) -> None:
    """The summary of a scoring run: its books, class counts, where the time went, its files."""
    _leave("markdown", _scoring(run), key="score-summary", description="What was scored")


def create_drift_table(run: RunResult) -> None:
    """What was found of the night beside those before it, where any of it warns."""
    if run.drift and run.drift.warnings:
        _leave("markdown", _drift(run, run.drift), key="drift", description="What has changed")


def create_training_summary(info: ModelInfo, where: str) -> None:
    """The metrics by class as a table, a summary, and the confusion matrix where it has a URL."""
    rows = [
        {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
        for row in info.as_dict()["metrics"]["by_class"]
    ]
    _leave("table", rows, key="metrics-by-class", description="On the validation images")
    _leave("markdown", _training(info, where), key="train-summary", description="The model")
    picture = _url(f"{where}/pictures/confusion.png")
    if picture:
        _leave("image", picture, key="confusion", description="Confusion matrix")


def create_epoch_table(history: list[dict[str, Any]]) -> None:
    """Losses and metrics as a table, an epoch a row."""
    _leave("table", history, key="epochs", description="Losses and metrics, an epoch a row")


def create_retrain_summary(model: str, verdict: dict[str, Any]) -> None:
    """Whether the new model was promoted, and why; what production was, and how to look closer."""
    outcome = "promoted" if verdict["better"] else "not promoted"
    why = verdict["why"][:1].upper() + verdict["why"][1:]
    note = f"## {model}: {outcome}\n\n{_text(why)}.\n"
    keys = ("images", "candidate_errors", "production_errors")
    if "images" in verdict:
        note += "\n| | |\n|---|---:|\n"
        note += "".join(f"| {key.replace('_', ' ')} | {verdict[key]} |\n" for key in keys)
        before = verdict["production"]
        now = f"was {_code(before)} until now" if verdict["better"] else f"stays {_code(before)}"
        note += f"\nProduction {now}. The images on which they differ: "
        note += _code(f"visionflows models compare {model} {before}") + "\n"
    _leave("markdown", note, key="retrain-summary", description="Whether it was promoted")


def _leave(kind: str, what: Any, key: str, description: str) -> None:
    """Make an artifact of Prefect's, if there is a run that can have it and a server to take it."""
    if not in_run():
        return
    from prefect import artifacts

    make = getattr(artifacts, f"create_{kind}_artifact")
    shown(f"the artifact {key}", lambda: make(what, key=key, description=description))


def _scoring(run: RunResult) -> str:
    counts, timings = run.counts, run.timings
    statuses = {name: count for name, count in counts.by_status.items() if name != "ok"}
    rejected = f" + {counts.rejected} rejected" if counts.rejected else ""
    files = [*run.files, f"{run.folder}report.html", f"{run.folder}review.html"]
    return "\n".join(
        [
            f"## {counts.found} files found = {counts.ok} ok{rejected} + {counts.failed} failed",
            f"{_code(run.input)} with {run.model.name}@{run.model.version} on {_text(run.device)}",
            "",
            *(f"- {_link(run.output, name)}" for name in files),
            *([run.mixed, ""] if run.mixed else []),
            *(f"- **drift**: {_text(line)}" for line in (run.drift.warnings if run.drift else ())),
            *_table("label", "files", counts.by_label),
            *_table("not scored", "files", statuses),
            "### Where the time went",
            f"{timings.seconds:.1f} s, {timings.images_per_second} images/s; {timings.limit}",
            *_table("stage", "seconds per 1,000", timings.per_1000),
        ]
    )


def _drift(run: RunResult, drift: Drift) -> str:
    lines = ["| | files elsewhere | chance | |", "|---|---:|---:|---|"]
    for one in drift.findings:
        warns = "**warns**" if one.warns else ""
        lines.append(
            f"| {_text(one.said)} | {100 * one.effect:.1f} % | {one.p_value:.2g} | {warns} |"
        )
    notes = [f"- {_text(note)}" for note in drift.notes]
    page = _link(run.output, "history.html")
    return "\n".join(
        [f"## {_text(run.output)} is not what it was", "", *lines, "", *notes, "", page]
    )


def _training(info: ModelInfo, where: str) -> str:
    metrics, dataset, training = info.metrics, info.dataset, info.training
    seconds = sum(epoch.seconds for epoch in training.history)
    return "\n".join(
        [
            f"## {info.name}@{info.version}",
            f"{_text(info.architecture)} on {dataset.train} images of {len(info.classes)} "
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


def _table(left: str, right: str, rows: Mapping[Any, object]) -> list[str]:
    if not rows:
        return []
    lines = (f"| {_text(name)} | {value} |" for name, value in rows.items())
    return ["", f"| {left} | {right} |", "|---|---:|", *lines, ""]


def _text(text: str) -> str:
    """Text of others as markdown that shows it as it is: no tag, link, emphasis or cell of its own.

    CommonMark lets every mark of ASCII be escaped; a bare URL or address is none then either.
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(str(text).split()))


def _code(text: str) -> str:
    """Text of others as a code span, in a fence that it does not have itself."""
    line = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"`{line}`"


def _link(folder: str, name: str) -> str:
    where = f"{folder.rstrip('/')}/{name}"
    url = _url(where)
    return f"[{name}]({url})" if url else f"{name}: {_code(where)}"


def _url(where: str) -> str:
    """Where a place in the store is served over HTTP; empty where it is not."""
    served, store = os.environ.get("VISIONFLOWS_STORE_URL", ""), default_store().rstrip("/") + "/"
    if not served or not where.startswith(store):
        return ""
    return f"{served.rstrip('/')}/{quote(where.removeprefix(store))}"
