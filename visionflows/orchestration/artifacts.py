"""Prefect artifacts of a flow run: a summary and tables. Outside a flow run none is created.

With VISIONFLOWS_STORE_URL (the store served over HTTP) files in the store become links; other files
are named by their absolute path or URI, since a browser opens no file:// and no s3:// link.
"""

import os
import re
from collections.abc import Collection, Sequence
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
    _create("markdown", _describe_run(run), "score-summary", "Scoring summary")


def create_drift_table(run: RunResult) -> None:
    """List the drift tests of a run, if one of them warns."""
    if run.drift and run.drift.warnings:
        _create("markdown", _describe_drift(run, run.drift), "drift", "Drift")


def create_training_summary(info: ModelInfo, location: str) -> None:
    """Summarize a training: metrics by class, a summary and the confusion matrix."""
    rows = [
        {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
        for row in info.as_dict()["metrics"]["by_class"]
    ]
    _create("table", rows, "metrics-by-class", "Metrics by class (validation)")
    _create("markdown", _describe_training(info, location), "train-summary", "Training summary")


def create_epoch_table(history: list[dict[str, Any]]) -> None:
    """List losses and metrics, one row for each epoch."""
    _create("table", history, "epochs", "Losses and metrics by epoch")


def create_retrain_summary(model: str, verdict: dict[str, Any]) -> None:
    """State whether the new model was promoted, why, and how to compare it with production."""
    outcome = "promoted" if verdict["better"] else "not promoted"
    reason = verdict["why"][:1].upper() + verdict["why"][1:]
    lines = [f"## {model}: {outcome}", "", f"{_text(reason)}."]
    if "images" in verdict:
        keys = ("images", "candidate_errors", "production_errors")
        before, verb = verdict["production"], "was" if verdict["better"] else "stays"
        command = _code(f"visionflows models compare {model} {before}")
        lines += _table(("", ""), [(key.replace("_", " "), verdict[key]) for key in keys])
        lines += [f"Production {verb} {_code(before)}. See the disagreements: {command}", ""]
    _create("markdown", "\n".join(lines), "retrain-summary", "Promotion decision")


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
            *_table(("label", "files"), counts.by_label.items()),
            *_table(("not scored", "files"), statuses.items()),
            "### Timings",
            f"{timings.seconds:.1f} s, {timings.images_per_second} images/s; {timings.bottleneck}",
            *_table(("stage", "seconds per 1,000"), timings.seconds_per_1000.items()),
        ]
    )


def _describe_drift(run: RunResult, drift: Drift) -> str:
    output, warns = absolute(run.output), {True: "**warns**", False: ""}
    rows = [
        (test.description, f"{100 * test.effect:.1f} %", f"{test.p_value:.2g}", warns[test.warns])
        for test in drift.findings
    ]
    return "\n".join(
        [
            f"## {_text(output)} has drifted",
            *_table(("", "changed", "p-value", ""), rows),
            *(f"- {_text(note)}" for note in drift.notes),
            *("", _link(output, "history.html")),
        ]
    )


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
    header = ("actual / predicted", *map(_text, info.classes))
    rows = [(name, *row) for name, row in zip(info.classes, info.metrics.confusion, strict=True)]
    return ["", "### Confusion matrix", *_table(header, rows)]


def _table(header: Sequence[str], rows: Collection[Sequence[Any]]) -> list[str]:
    """The lines of a table; the first column is untrusted text. No lines without rows."""
    if not rows:
        return []
    alignment = ["---", *["---:"] * (len(header) - 1)]
    lines = [header, alignment, *((_text(name), *values) for name, *values in rows)]
    return ["", *(f"| {' | '.join(map(str, line))} |" for line in lines), ""]


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
    """A link to a file in a store that is served over HTTP; else its path as text."""
    path, store = f"{folder.rstrip('/')}/{name}", f"{absolute(default_store()).rstrip('/')}/"
    url = os.environ.get("VISIONFLOWS_STORE_URL", "").rstrip("/")
    if not url or not path.startswith(store):
        return f"{name}: {_code(path)}"
    return f"[{name}]({url}/{quote(path.removeprefix(store))})"
