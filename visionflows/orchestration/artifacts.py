"""Prefect artifacts of a flow run: a summary and tables. Outside a flow run none is created.

With VISIONFLOWS_STORE_URL (the store served over HTTP) files in the store become links; other files
are named by their absolute path or URI, since a browser opens no file:// and no s3:// link.
"""

import os
import re
from typing import Any
from urllib.parse import quote

from visionflows.escaping import printable
from visionflows.models.registry import default_store
from visionflows.models.schema import ModelInfo
from visionflows.orchestration.flow_runs import in_run, update_ui
from visionflows.reports.rendering import render
from visionflows.scoring.schema import RunResult
from visionflows.storage import absolute


def create_score_summary(run: RunResult) -> None:
    """Summarize a scoring run: counts, labels, timings, and its files."""
    _create_page("score-summary", "Scoring summary", run=run, output=absolute(run.output))


def create_drift_table(run: RunResult) -> None:
    """List the drift tests of a run, if one of them warns."""
    if run.drift and run.drift.warnings:
        _create_page("drift", "Drift", drift=run.drift, output=absolute(run.output))


def create_training_summary(info: ModelInfo, location: str) -> None:
    """Summarize a training: metrics by class, a summary and the confusion matrix."""
    rows = [
        {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
        for row in info.as_dict()["metrics"]["by_class"]
    ]
    _create("table", rows, "metrics-by-class", "Metrics by class (validation)")
    _create_page("train-summary", "Training summary", info=info, location=absolute(location))


def create_epoch_table(history: list[dict[str, Any]]) -> None:
    """List losses and metrics, one row for each epoch."""
    _create("table", history, "epochs", "Losses and metrics by epoch")


def create_retrain_summary(model: str, verdict: dict[str, Any]) -> None:
    """State whether the new model was promoted, why, and how to compare it with production."""
    _create_page("retrain-summary", "Promotion decision", model=model, verdict=verdict)


def _create_page(key: str, description: str, **values: Any) -> None:
    """Create a markdown artifact from the template of its name."""
    helpers = {"text": _text, "code": _code, "link": _link}
    _create("markdown", render(f"{key}.md", **helpers, **values), key, description)


def _create(kind: str, content: Any, key: str, description: str) -> None:
    """Create a Prefect artifact in a flow run; without its server, only warn."""
    if not in_run():
        return
    from prefect import artifacts

    create = getattr(artifacts, f"create_{kind}_artifact")
    update_ui(f"the artifact {key}", lambda: create(content, key=key, description=description))


def _text(text: str) -> str:
    """Untrusted text as markdown without effect: every ASCII punctuation mark is escaped.

    CommonMark then renders no tag, link, emphasis or table cell, and no bare URL.
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", printable(" ".join(str(text).split())))


def _code(text: str) -> str:
    """Untrusted text as a code span, fenced by more backticks than it contains."""
    line = printable(" ".join(text.split()))
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"`{line}`"


def _link(folder: str, name: str) -> str:
    """A link to a file in a store that is served over HTTP; else its path as text."""
    path, store = f"{folder.rstrip('/')}/{name}", f"{absolute(default_store()).rstrip('/')}/"
    url = os.environ.get("VISIONFLOWS_STORE_URL", "").rstrip("/")
    if not url or not path.startswith(store):
        return f"{name}: {_code(path)}"
    return f"[{name}]({url}/{quote(path.removeprefix(store))})"
