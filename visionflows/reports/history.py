"""The run history of an output: trends, drift warnings and a table of all runs."""

import dataclasses
import datetime
from collections import Counter
from collections.abc import Callable, Sequence

from visionflows.images.image_status import SCORED_STATUSES
from visionflows.label_sets import count_labels
from visionflows.monitoring.run_records import RunRecord
from visionflows.reports.charts import LineChart
from visionflows.reports.links import Link, link_to_model
from visionflows.reports.rendering import describe, format_percent, render

HISTORY_PAGE = "history.html"
LABELS = 8  # the most frequent ones, which are shown
OTHERS = "other labels"


@dataclasses.dataclass(frozen=True)
class Measure:
    """A figure of each run: its value (None if unknown) and its format.

    Runs with a drift warning for `quantity` get a ring in the chart. `bounds` are values that the
    axis includes. `is_audited`: the chart shows the confidence interval of the audit.
    """

    title: str
    value: Callable[[RunRecord], float | None]
    format: Callable[[float], str]
    quantity: str = ""
    bounds: tuple[float, ...] = (0.0,)
    is_audited: bool = False


def render_history(output: str, records: Sequence[RunRecord], is_output: bool = True) -> str:
    """The HTML of an output's run history, from records sorted from the oldest to the newest.

    `is_output`: the page lies in the output of the runs, and links to the pages of the last one.
    """
    shares = share_measures(records)
    warnings = [
        (record, line) for record in records if record.drift for line in record.drift.warnings
    ]
    return render(
        HISTORY_PAGE,
        output=output,
        records=records[::-1],
        headline=describe("history", records),
        charts=draw_charts(MEASURES, records),
        share_charts=draw_charts(shares, records),
        starts=[
            (records[at], link_to_model(records[at].model.storage, output))
            for at in _model_starts(records)
        ],
        warnings=warnings[::-1],
        measures=MEASURES,
        shares=shares,
        links=_result_links(records) if is_output and records else [],
        format_day=format_day,
    )


def _result_links(records: Sequence[RunRecord]) -> list[Link]:
    """Links to the pages and the CSV of the last run; a failed run keeps an earlier result."""
    has_result = any(record.status == "done" for record in records)
    folder = "failed/" if records[-1].status == "failed" and has_result else ""
    return [
        Link("Last scoring report", f"{folder}report.html"),
        Link("Review", f"{folder}review.html"),
        Link("predictions.csv", f"{folder}predictions.csv"),
    ]


def share_measures(records: Sequence[RunRecord]) -> list[Measure]:
    """A measure of the share of each frequent label, and one for OTHERS if there are any."""
    counts = sum(map(_label_counts, records), Counter[str]())
    order = sorted(counts, key=lambda label: (-counts[label], label))
    labels, others = order[:LABELS], order[LABELS:]
    if any(record.model.multi_label for record in records):
        others = []  # a file may have several of them
    return [measure_share(name, labels) for name in [*labels, *([OTHERS] if others else [])]]


def measure_share(label: str, labels: Sequence[str]) -> Measure:
    """The share of a label, or of all labels that are not in `labels` for OTHERS."""

    def share(record: RunRecord) -> float | None:
        counts, total = _label_counts(record), record.histograms.labelled
        others = total - sum(counts.get(one, 0) for one in labels)
        return (others if label == OTHERS else counts.get(label, 0)) / total if total else None

    return Measure(label, share, format_percent, "labels")


def _label_counts(record: RunRecord) -> Counter[str]:
    counts = record.histograms.labels
    return count_labels(counts) if record.model.multi_label else Counter(counts)


def _failure_rate(record: RunRecord) -> float | None:
    found = record.histograms.total
    seen = sum(record.histograms.statuses.get(status, 0) for status in SCORED_STATUSES)
    return (found - seen) / found if found else None


def _outlier_rate(record: RunRecord) -> float | None:
    counts = record.histograms.outliers
    return counts.get("True", 0) / total if (total := sum(counts.values())) else None


def _mean_confidence(record: RunRecord) -> float | None:
    return record.histograms.mean_confidence


def _audited_accuracy(record: RunRecord) -> float | None:
    return record.audit.accuracy if record.audit else None


MEASURES = (
    Measure("Files", lambda record: record.histograms.total, lambda value: f"{value:,.0f}"),
    Measure("Failures", _failure_rate, format_percent, "failures", (0.0, 0.01)),
    Measure("Mean confidence", _mean_confidence, lambda v: f"{v:.3f}", "confidence", (1.0,)),
    Measure("Outliers", _outlier_rate, format_percent, "outliers", (0.0, 0.01)),
    Measure("Audited accuracy", _audited_accuracy, format_percent, "", (1.0,), is_audited=True),
)


def draw_charts(measures: Sequence[Measure], records: Sequence[RunRecord]) -> list[LineChart]:
    """A chart of each measure that enough runs have for a line."""
    if not records:
        return []
    return [chart for one in measures if (chart := draw_chart(one, records)).is_worth_drawing]


def draw_chart(measure: Measure, records: Sequence[RunRecord]) -> LineChart:
    """The chart of a measure over the runs."""
    values = [measure.value(record) for record in records]
    rings = [
        at
        for at, record in enumerate(records)
        if values[at] is not None and measure.quantity in record.drifted
    ]
    audits = enumerate(record.audit for record in records) if measure.is_audited else ()
    known = [(value, run) for value, run in zip(values, records, strict=True) if value is not None]
    trend = {"measure": measure, "known": known, "warnings": len(rings), "day": format_day}
    return LineChart(
        measure.title,
        {measure.title: values},
        (format_day(records[0]), format_day(records[-1])),
        measure.format,
        measure.bounds,
        note=f"last {measure.format(known[-1][0])}" if known else "",
        description=describe("trend", trend),
        dashes=_model_starts(records)[1:],
        rings=rings,
        intervals={at: (audit.low, audit.high) for at, audit in audits if audit},
    )


def _model_starts(records: Sequence[RunRecord]) -> list[int]:
    """The positions of the runs whose model differs from that of the run before."""
    models = ["", *(f"{record.model.name}@{record.model.version}" for record in records)]
    return [at for at in range(len(records)) if models[at] != models[at + 1]]


def format_day(record: RunRecord) -> str:
    """The day of a run, such as 3 Jan 2026."""
    return f"{datetime.datetime.fromisoformat(record.started):%-d %b %Y}"
