"""Models as a person reads them on a terminal: a table of versions, a page of one, a history.

from visionflows.cli.model_tables import catalogue
tell(catalogue(registry.catalogue("store")))
"""

import datetime
import math
from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from visionflows.cli.terminal import Rows, clean, facts, heading
from visionflows.models.promotion_history import Promotion
from visionflows.models.registry import Listed
from visionflows.models.schema import DatasetInfo, ModelInfo
from visionflows.reports.comparison import Comparison
from visionflows.reports.page import percent
from visionflows.reports.training import agreement_line, outliers_line

CLASSES = 40  # rows of a class each: the report has them all


def catalogue(found: Sequence[Listed]) -> Rows:
    """A row a version."""
    numbers = ("error rate", "images")
    columns = ("version", "aliases", *numbers, "architecture", "trained (UTC)", "dataset")
    return Rows(columns, [_row(one.info, one.aliases) for one in found], numbers)


def _row(info: ModelInfo, aliases: list[str]) -> list[str]:
    return [
        f"{info.name}@{info.version}",
        ", ".join(aliases),
        _rate(info.metrics.error_rate),
        f"{info.dataset.train + info.dataset.valid:,}",
        info.architecture,
        trained(info).partition("+")[0].replace("T", " ")[:16] or "–",
        info.dataset.name or "–",
    ]


def listed(one: Listed) -> dict[str, Any]:
    """The same of a version for machines; `images` are those it was trained and validated on."""
    info = one.info
    return {
        "name": info.name,
        "version": info.version,
        "aliases": one.aliases,
        "error_rate": info.metrics.error_rate,
        "accuracy": info.metrics.accuracy,
        "images": info.dataset.train + info.dataset.valid,
        "architecture": info.architecture,
        "trained": trained(info) or None,
        "dataset": {
            key: getattr(info.dataset, key) for key in ("name", "source", "sha256", "fingerprint")
        },
        "lineage": {"parent": info.lineage.parent, "flow_run": info.lineage.flow_run},
    }


def trained(info: ModelInfo) -> str:
    """When a version was made, as ISO 8601 in UTC; empty where its name does not say."""
    try:
        when = datetime.datetime.strptime(info.version.partition("Z")[0], "%Y%m%dT%H%M%S%f")
    except ValueError:
        return ""
    return when.replace(tzinfo=datetime.UTC).isoformat(timespec="milliseconds")


def model(info: ModelInfo, aliases: list[str], where: str) -> list[RenderableType]:
    """All that a person asks of a model: metrics, data, lineage, settings, evidence, classes."""
    means = f"  ({', '.join(aliases)})" if aliases else ""
    return [
        Text(f"{info.name}@{info.version}{means}", style="bold"),
        facts("Metrics", _metrics(info)),
        facts("Data", _data(info)),
        facts("Lineage", _lineage(info)),
        facts("Settings", _settings(info)),
        facts("Evidence", _evidence(info)),
        *([facts("Notes", [("–", note) for note in info.notes])] if info.notes else []),
        *_classes(info),
        facts("Files", [("bundle", where), ("report", f"{where}/report.html")]),
    ]


def _metrics(info: ModelInfo) -> list[tuple[str, str]]:
    metrics = info.metrics
    valid = f" of {info.dataset.valid:,} validation images" if info.dataset.valid else ""
    return [
        ("error rate", f"{_rate(metrics.error_rate)}{valid}"),
        ("accuracy", _rate(metrics.accuracy)),
        ("validation loss", _rate(metrics.valid_loss)),
    ]


def _data(info: ModelInfo) -> list[tuple[str, str]]:
    data = info.dataset
    sides = f"{data.train:,} to train on, {data.valid:,} to validate on, {data.skipped:,} left out"
    return [
        ("dataset", data.name),
        ("source", data.source),
        ("images", sides),
        ("corrections", _corrections(data)),
        ("classes", f"{len(info.classes):,}"),
        ("labels", info.labels),
        ("split", f"seed {info.split.seed}, share {info.split.valid_pct}"),
        ("fingerprint", data.fingerprint),
        ("archive sha256", data.sha256 or ""),
    ]


def _corrections(data: DatasetInfo) -> str:
    if data.corrections is None:
        return ""
    told = data.corrections
    return (
        f"{told.taken:,} labels from people, {told.changed:,} of them others than in the dataset, "
        f"{told.imported:,} of images that it lacks"
    )


def _lineage(info: ModelInfo) -> list[tuple[str, str]]:
    parent = f"{info.name}@{info.lineage.parent}" if info.lineage.parent else "none was production"
    told = "lineage" in info.model_fields_set
    return [
        ("trained", trained(info).replace("T", " ")),
        ("parent", parent if told else "not said: published by an older visionflows"),
        ("flow run", info.lineage.flow_run or ("none" if told else "")),
        ("versions", ", ".join(f"{name} {version}" for name, version in info.versions.items())),
    ]


def _settings(info: ModelInfo) -> list[tuple[str, str]]:
    training = info.training
    pixels = f"{info.image_size} × {info.image_size} pixels, {info.resize}"
    epochs = (
        f"{training.freeze_epochs} frozen and {training.epochs} unfrozen, keeping {training.keep}"
    )
    pace = f"base rate {training.base_lr:.3g}, batches of {training.batch_size}"
    if not training.history:
        epochs = pace = ""
    return [
        ("architecture", info.architecture),
        ("pretrained", info.pretrained),
        ("images", f"{pixels}; large ones decoded {info.decode}"),
        ("epochs", epochs),
        ("learning", pace),
        ("augmentation", "yes" if training.augment else "no"),
        ("trained on", training.device),
        ("mixed precision", info.precision.trained),
        ("training time", f"{training.seconds:,.0f} s" if training.seconds else ""),
    ]


def _evidence(info: ModelInfo) -> list[tuple[str, str]]:
    precision, decode, onnx = info.precision, info.decode_agreement, info.onnx
    told = [
        (found.precision or "float32", agreement_line(found))
        for found in (precision.agreement, precision.int8)
        if found is not None
    ]
    if decode is not None and decode.images:
        told.append(
            (
                "decoding",
                f"{decode.disagreements} of {decode.images:,} labels differ from whole photos'",
            )
        )
    if info.outliers is not None:
        told.append(("outliers", outliers_line(info.outliers)))
    if onnx is not None:
        difference = f"opset {onnx.opset}, within {onnx.largest_difference:.2g} of fastai's answers"
        told.append(("model.onnx", f"none: {onnx.why}" if onnx.why else difference))
    return told or [("", "none: it was published without")]


def _classes(info: ModelInfo) -> list[RenderableType]:
    """Precision and recall of each class, those with the lowest recall first where it is many."""
    rows = [*info.metrics.by_class]
    if not rows:
        return []
    title = "Classes"
    if len(rows) > CLASSES:
        rows = sorted(rows, key=lambda row: 1.0 if row.recall is None else row.recall)[:CLASSES]
        title = f"Classes: the {CLASSES} of lowest recall, of {len(info.metrics.by_class):,}"
    numbers = ("images", "precision", "recall")
    cells = [
        [row.class_, f"{row.count:,}", _rate(row.precision), _rate(row.recall)] for row in rows
    ]
    return [heading(title), Rows(("class", *numbers), cells, numbers)]


def history(found: Sequence[Promotion]) -> Rows:
    """A row a promotion."""
    columns = ("when (UTC)", "alias", "version", "before", "who", "why")
    return Rows(columns, [_promotion(one) for one in found])


def _promotion(one: Promotion) -> list[str]:
    when = one.when[:19].replace("T", " ")
    return [when, one.alias, one.version, one.before or "–", one.who, one.why or "–"]


def comparison(found: Comparison) -> list[RenderableType]:
    """Both versions, whose the images are, the classes on which they differ, and the test."""
    errors = (("A", found.a, found.a_errors), ("B", found.b, found.b_errors))
    versions = [
        [letter, f"{info.name}@{info.version}", f"{wrong:,}", percent(wrong / found.images)]
        for letter, info, wrong in errors
    ]
    whose = [
        ["both right", f"{found.both_right:,}"],
        ["only A right", f"{len(found.only_a_right):,}"],
        ["only B right", f"{len(found.only_b_right):,}"],
        ["both wrong, differently", f"{len(found.both_wrong_apart):,}"],
        ["both wrong, alike", f"{found.both_wrong_alike:,}"],
    ]
    return [
        Text(found.headline, style="bold"),
        "",
        Rows(("", "version", "wrong", "share"), versions, ("wrong", "share")),
        "",
        Rows(("whose the images are", "images"), whose, ("images",)),
        *_differing(found),
        "",
        found.test,
        *map(clean, found.aside),
    ]


def _differing(found: Comparison) -> list[RenderableType]:
    rows = [row for row in found.classes if row.only_a_right or row.only_b_right]
    rows = sorted(rows, key=lambda row: -(row.only_a_right + row.only_b_right))[:CLASSES]
    if not rows:
        return []
    numbers = ("images", "A right", "B right", "only A", "only B")
    cells = [[row.name, *(f"{count:,}" for count in row[1:])] for row in rows]
    return ["", Rows(("class", *numbers), cells, numbers)]


def _rate(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4f}"
