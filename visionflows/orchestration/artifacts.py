"""Prefect artifacts of a flow run: a summary and tables.

    artifacts.create_score_summary(run)                      # run.json
    artifacts.create_training_summary(info, "store/models/pets/20261123T081500123Z-1a2b3c4d")

A browser opens no file:// and no s3:// link. If the store is also served over HTTP (a CDN before a
bucket, nginx before a share), set VISIONFLOWS_STORE_URL: files in the store then become links.
Other files are named by their absolute path or URI. Outside a flow run nothing is created.
"""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from visionflows.models.registry import default_store
from visionflows.models.schema import ModelInfo
from visionflows.monitoring.run_records import Drift
from visionflows.orchestration.flow_runs import in_run, update_ui
from visionflows.scoring.schema import RunResult
from visionflows.storage import absolute

MATRIX_CLASSES = 20


def create_score_summary(run: RunResult) -> None:
    """Summarize a scoring run: counts, labels, timings, and its files."""
    _create("markdown", _describe_run(run), key="score-summary", description="Scoring summary")


def create_drift_table(run: RunResult) -> None:
    """List the drift tests of a run, if one of them warns."""
    if run.drift and run.drift.warnings:
        _create("markdown", _describe_drift(run, run.drift), key="drift", description="Drift")


def create_training_summary(info: ModelInfo, location: str) -> None:
    """Summarize a training: metrics by class, a summary and the confusion matrix."""
    rows = [
        {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
        for row in info.as_dict()["metrics"]["by_class"]
    ]
    _create("table", rows, key="metrics-by-class", description="Metrics by class (validation)")
    summary = _describe_training(info, location)
    _create("markdown", summary, key="train-summary", description="Training summary")


def create_epoch_table(history: list[dict[str, Any]]) -> None:
    """List losses and metrics, one row for each epoch."""
    _create("table", history, key="epochs", description="Losses and metrics by epoch")


def create_retrain_summary(model: str, verdict: dict[str, Any]) -> None:
    """State whether the new model was promoted, why, and how to compare it with production."""
    outcome = "promoted" if verdict["better"] else "not promoted"
    reason = verdict["why"][:1].upper() + verdict["why"][1:]
    note = f"## {model}: {outcome}\n\n{_text(reason)}.\n"
    keys = ("images", "candidate_errors", "production_errors")
    if "images" in verdict:
        note += "\n| | |\n|---|---:|\n"
        note += "".join(f"| {key.replace('_', ' ')} | {verdict[key]} |\n" for key in keys)
        before = verdict["production"]
        note += f"\nProduction {'was' if verdict['better'] else 'stays'} {_code(before)}."
        command = f"visionflows models compare {model} {before}"
        note += f" See the disagreements: {_code(command)}\n"
    _create("markdown", note, key="retrain-summary", description="Promotion decision")


def _create(kind: str, content: Any, key: str, description: str) -> None:
    """Create a Prefect artifact in a flow run; without its server, only warn."""
    if not in_run():
        return
    from prefect import artifacts

    create = getattr(artifacts, f"create_{kind}_artifact")
    update_ui(f"the artifact {key}", lambda: create(content, key=key, description=description))


def _describe_run(run: RunResult) -> str:
    counts, timings, output = run.counts, run.timings, absolute(run.output)
    statuses = {name: count for name, count in counts.by_status.items() if name != "ok"}
    rejected = f" + {counts.rejected} rejected" if counts.rejected else ""
    files = [f"{run.folder}report.html", f"{run.folder}review.html", *run.files]
    return "\n".join(
        [
            f"## {counts.found} files found = {counts.ok} ok{rejected} + {counts.failed} failed",
            f"{_code(run.input)} with {run.model.name}@{run.model.version} on {_text(run.device)}",
            "",
            *(f"- {_link(output, name)}" for name in files),
            *([run.mixed, ""] if run.mixed else []),
            *(f"- **drift**: {_text(line)}" for line in (run.drift.warnings if run.drift else ())),
            *_table("label", "files", counts.by_label),
            *_table("not scored", "files", statuses),
            "### Timings",
            f"{timings.seconds:.1f} s, {timings.images_per_second} images/s; {timings.bottleneck}",
            *_table("stage", "seconds per 1,000", timings.seconds_per_1000),
        ]
    )


def _describe_drift(run: RunResult, drift: Drift) -> str:
    lines = ["| | changed | p-value | |", "|---|---:|---:|---|"]
    for one in drift.findings:
        warns = "**warns**" if one.warns else ""
        lines.append(
            f"| {_text(one.description)} | {100 * one.effect:.1f} % | {one.p_value:.2g} | {warns} |"
        )
    notes = [f"- {_text(note)}" for note in drift.notes]
    output = absolute(run.output)
    page = _link(output, "history.html")
    return "\n".join([f"## {_text(output)} has drifted", "", *lines, "", *notes, "", page])


def _describe_training(info: ModelInfo, location: str) -> str:
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
            f"{dataset.skipped} images skipped",
            "",
            f"- {_link(absolute(location), 'report.html')}",
            f"- {_link(absolute(location), 'model.json')}",
            *_confusion_matrix(info),
        ]
    )


def _confusion_matrix(info: ModelInfo) -> list[str]:
    """The confusion matrix as a table; none if it has too many classes to be read."""
    if not 0 < len(info.metrics.confusion) <= MATRIX_CLASSES:
        return []
    header = "".join(f" {_text(name)} |" for name in info.classes)
    rows = (
        f"| {_text(name)} |" + "".join(f" {count} |" for count in counts)
        for name, counts in zip(info.classes, info.metrics.confusion, strict=True)
    )
    separator = "|---|" + "---:|" * len(info.classes)
    return ["", "### Confusion matrix", "", f"| actual / predicted |{header}", separator, *rows, ""]


def _table(left: str, right: str, rows: Mapping[Any, object]) -> list[str]:
    if not rows:
        return []
    lines = (f"| {_text(name)} | {value} |" for name, value in rows.items())
    return ["", f"| {left} | {right} |", "|---|---:|", *lines, ""]


def _text(text: str) -> str:
    """Untrusted text as markdown without effect: every ASCII punctuation mark is escaped.

    CommonMark then renders no tag, link, emphasis or table cell, and no bare URL.
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(str(text).split()))


def _code(text: str) -> str:
    """Untrusted text as a code span, fenced by more backticks than it contains."""
    line = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"`{line}`"


def _link(folder: str, name: str) -> str:
    path = f"{folder.rstrip('/')}/{name}"
    url = _url(path)
    return f"[{name}]({url})" if url else f"{name}: {_code(path)}"


def _url(path: str) -> str:
    """The URL at which a file in the store is served over HTTP; empty if it is not."""
    served, store = os.environ.get("VISIONFLOWS_STORE_URL", ""), absolute(default_store())
    store = f"{store.rstrip('/')}/"
    if not served or not path.startswith(store):
        return ""
    return f"{served.rstrip('/')}/{quote(path.removeprefix(store))}"
