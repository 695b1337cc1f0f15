"""Tables of models for the terminal: versions, one version, promotions, a comparison."""

import datetime
import math
from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from visionflows.cli.terminal import Rows, heading, parse_facts
from visionflows.models.promotion_history import Promotion
from visionflows.models.registry import ListedModel
from visionflows.models.schema import ModelInfo
from visionflows.reports.comparison import Comparison
from visionflows.reports.rendering import describe, describe_lines, format_percent, render

MAX_CLASSES = 40  # rows; the report has all classes
_RECORD = {"name", "version", "architecture", "lineage"}  # of model.json, in the JSON of a list


def version_table(versions: Sequence[ListedModel]) -> Rows:
    """One row for each published version."""
    numbers = ("error rate", "images")
    columns = ("version", "aliases", *numbers, "architecture", "trained (UTC)", "dataset")
    rows = [
        [
            f"{info.name}@{info.version}",
            ", ".join(aliases),
            _rate(info.metrics.error_rate, _error_interval(info)),
            f"{info.dataset.train + info.dataset.valid:,}",
            info.architecture,
            trained_at(info)[:16].replace("T", " ") or "–",
            info.dataset.name,
        ]
        for info, aliases in versions
    ]
    return Rows(columns, rows, numbers)


def _error_interval(info: ModelInfo) -> tuple[float, float] | None:
    """The 95 % interval of the error rate; None for a model that has none."""
    low, high = info.metrics.interval or (math.nan, math.nan)
    return (1 - high, 1 - low) if math.isfinite(low) else None


def version_record(version: ListedModel) -> dict[str, Any]:
    """The same as JSON; `images` counts the training and validation images."""
    info, data = version.info, version.info.dataset
    return {
        **info.model_dump(include=_RECORD),
        "aliases": version.aliases,
        "error_rate": info.metrics.error_rate,
        "accuracy": info.metrics.accuracy,
        "images": data.train + data.valid,
        "trained": trained_at(info) or None,
        "dataset": data.model_dump(include={"name", "source", "sha256", "fingerprint"}),
    }


def trained_at(info: ModelInfo) -> str:
    """When a version was trained, as ISO 8601 in UTC; empty if its name has no time."""
    try:
        time = datetime.datetime.strptime(info.version.partition("Z")[0], "%Y%m%dT%H%M%S%f")
    except ValueError:
        return ""
    return time.replace(tzinfo=datetime.UTC).isoformat(timespec="milliseconds")


def model_page(info: ModelInfo, aliases: list[str], location: str) -> list[RenderableType]:
    """The metrics, data, lineage, settings, evidence, classes and files of a model."""
    values = {"aliases": aliases, "location": location, "trained": trained_at(info)}
    title, *sections = render("model.txt", info=info, rate=_rate, **values).split("\n# ")
    *pages, files = map(parse_facts, sections)
    return [Text(title.strip(), style="bold"), *pages, *_classes(info), files]


def _classes(info: ModelInfo) -> list[RenderableType]:
    """Precision and recall of each class; of many classes, those with the lowest recall."""
    rows, title = info.metrics.by_class, "Classes"
    if len(rows) > MAX_CLASSES:
        title = f"Classes: {MAX_CLASSES} with the lowest recall, of {len(rows):,}"
        by_recall = sorted(rows, key=lambda row: 1.0 if row.recall is None else row.recall)
        rows = tuple(by_recall[:MAX_CLASSES])
    numbers = ("images", "precision", "recall", *["average precision"] * info.multi_label)
    cells = [
        [
            *(row.class_, f"{row.count:,}"),
            _rate(row.precision, row.precision_interval),
            _rate(row.recall, row.recall_interval),
            *[_rate(row.average_precision)] * info.multi_label,
        ]
        for row in rows
    ]
    return [heading(title), Rows(("class", *numbers), cells, numbers)]


def promotion_table(promotions: Sequence[Promotion]) -> Rows:
    """One row for each promotion."""
    rows = [
        [
            *(one.when[:19].replace("T", " "), one.alias, one.version),
            *(one.before or "–", one.who, one.why or "–"),
        ]
        for one in promotions
    ]
    return Rows(("when (UTC)", "alias", "version", "before", "who", "why"), rows)


def comparison_page(found: Comparison) -> list[RenderableType]:
    """The errors of both versions, the classes on which they disagree, and the test."""
    versions = [
        [letter, model.name, f"{wrong:,}", format_percent(wrong / found.images)]
        for letter, model, wrong in (("A", found.a, found.a_errors), ("B", found.b, found.b_errors))
    ]
    outcomes = {
        "both correct": found.both_right,
        "only A correct": len(found.only_a_right),
        "only B correct": len(found.only_b_right),
        "both wrong, different labels": len(found.both_wrong_apart),
        "both wrong, same label": found.both_wrong_alike,
    }
    cells = [[name, f"{count:,}"] for name, count in outcomes.items()]
    return [
        Text(describe("comparison", found), style="bold"),
        "",
        Rows(("", "version", "wrong", "share"), versions, ("wrong", "share")),
        "",
        Rows(("outcome", "images"), cells, ("images",)),
        *_disagreements(found),
        "",
        *(describe("paired_test", found), describe("published_rates", found)),
        *describe_lines("not_compared", found),
    ]


def _disagreements(found: Comparison) -> list[RenderableType]:
    rows = [row for row in found.classes if row.only_a_right or row.only_b_right]
    if not rows:
        return []
    rows.sort(key=lambda row: -(row.only_a_right + row.only_b_right))
    numbers = ("images", "A correct", "B correct", "only A", "only B")
    cells = [[row.name, *(f"{count:,}" for count in row[1:])] for row in rows[:MAX_CLASSES]]
    return ["", Rows(("class", *numbers), cells, numbers)]


def _rate(value: float | None, interval: tuple[float, float] | None = None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.4f}" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")
