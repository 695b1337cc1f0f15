"""The page of all nights of an output: small charts, what was warned of, and a table of it all.

    from visionflows.reports.run_history import history_report
    page = history_report("scores/night", read_nights(place("scores/night")))

A chart is a line of SVG over the nights, in their order, and says in words what it shows.
"""

import dataclasses
import datetime
from collections import Counter
from collections.abc import Callable, Sequence

from visionflows.images.image_status import SCORED_STATUSES
from visionflows.monitoring.run_records import RunRecord
from visionflows.reports.page import page, percent

PAGE = "history.html"
CLASSES, WARNINGS = 8, 100  # shown: the largest, and the newest
OTHERS = "other labels"
LEFT, RIGHT, TOP, BOTTOM = 52, 312, 14, 92  # of a chart, in its own units

Value = Callable[[RunRecord], float | None]


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart: its line as an SVG path, dots where it warned, bars of intervals, and in words."""

    title: str
    last: str
    words: str
    path: str
    lowest: str
    highest: str
    dots: list[tuple[float, float]]
    warned: list[tuple[float, float]]
    intervals: list[tuple[float, float, float]]


@dataclasses.dataclass(frozen=True)
class Measure:
    """What a chart shows of a night, how that is told, the quantity whose warnings it marks, the
    range it has at least, and whether it has the interval of the night's audit."""

    title: str
    value: Value
    told: Callable[[float], str]
    quantity: str = ""
    lowest: float = 0.0
    highest: float = 0.0
    audited: bool = False


def history_report(output: str, run_records: Sequence[RunRecord]) -> str:
    """The HTML page of an output's nights, the oldest first."""
    labels = largest(run_records)
    starts = [
        (x, run_record)
        for x, run_record, before in _pairs(run_records)
        if _version(before) != _version(run_record)
    ]
    charts = [chart(one, run_records) for one in MEASURES]
    shares = [chart(share_of(label, labels), run_records) for label in shown(labels, run_records)]
    warnings = [
        (run_record, line)
        for run_record in run_records
        if run_record.drift
        for line in run_record.drift.warnings
    ]
    return page("history.html").render(
        output=output,
        run_records=run_records[::-1],
        headline=_headline(run_records, len({run_record.started for run_record, _ in warnings})),
        found=sum(run_record.tally.found for run_record in run_records),
        charts=[one for one in charts if one],
        shares=[one for one in shares if one],
        starts=starts,
        first=day(run_records[0]) if run_records else "",
        last=day(run_records[-1]) if run_records else "",
        warnings=warnings[::-1][:WARNINGS],
        more=max(len(warnings) - WARNINGS, 0),
        columns=[one.title for one in (*MEASURES, *_shares(labels, run_records))],
        rows=[
            (run_record, _cells(run_record, labels, run_records))
            for run_record in run_records[::-1]
        ],
        day=day,
        plot={"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
    )


def largest(run_records: Sequence[RunRecord]) -> list[str]:
    """The labels that are given most over all nights, at most CLASSES."""
    counts: Counter[str] = Counter()
    for run_record in run_records:
        counts.update(run_record.tally.labels)
    return [label for label, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))][
        :CLASSES
    ]


def shown(labels: Sequence[str], run_records: Sequence[RunRecord]) -> list[str]:
    """The labels, and OTHERS where there are any."""
    more = any(run_record.tally.labels.keys() - set(labels) for run_record in run_records)
    return [*labels, *([OTHERS] if more else [])]


def share_of(label: str, labels: Sequence[str]) -> Measure:
    """The share of a label, or of OTHERS than those named."""

    def share(run_record: RunRecord) -> float | None:
        counts, whole = run_record.tally.labels, run_record.tally.ok
        named = sum(counts.get(one, 0) for one in labels)
        return (
            (whole - named if label == OTHERS else counts.get(label, 0)) / whole if whole else None
        )

    return Measure(label, share, percent, "labels")


def _failed(run_record: RunRecord) -> float | None:
    found = run_record.tally.found
    good = sum(run_record.tally.statuses.get(status, 0) for status in SCORED_STATUSES)
    return (found - good) / found if found else None


def _outliers(run_record: RunRecord) -> float | None:
    counts = run_record.tally.outliers
    return counts.get("True", 0) / whole if (whole := sum(counts.values())) else None


MEASURES = (
    Measure("Files", lambda run_record: run_record.tally.found, lambda value: f"{value:,.0f}"),
    Measure("Failures", _failed, percent, "failures", highest=0.01),
    Measure(
        "Mean confidence",
        lambda run_record: run_record.tally.sure,
        lambda v: f"{v:.3f}",
        "confidence",
        1.0,
        1.0,
    ),
    Measure("Outliers", _outliers, percent, "outliers", highest=0.01),
    Measure(
        "Accuracy found by people",
        lambda run_record: run_record.audit.accuracy if run_record.audit else None,
        percent,
        lowest=1.0,
        highest=1.0,
        audited=True,
    ),
)


def chart(measure: Measure, run_records: Sequence[RunRecord]) -> Chart | None:
    """The chart of a measure; None where no night has it."""
    values = [measure.value(run_record) for run_record in run_records]
    known = [value for value in values if value is not None]
    if not known:
        return None
    bars = [run_record.audit for run_record in run_records if run_record.audit and measure.audited]
    lowest = min([measure.lowest, *known, *(bar.low for bar in bars)])
    highest = max([measure.highest, *known, *(bar.high for bar in bars)])
    spots = [
        (x, _height(value, lowest, highest), run_record)
        for x, run_record, value in zip(_across(len(run_records)), run_records, values, strict=True)
        if value is not None
    ]
    warned = [(x, y) for x, y, run_record in spots if measure.quantity in run_record.warned_of]
    return Chart(
        title=measure.title,
        last=measure.told(known[-1]),
        words=_words(measure, run_records, values, len(warned)),
        path=_path(values, lowest, highest),
        lowest=measure.told(lowest),
        highest=measure.told(highest),
        dots=[(x, y) for x, y, _ in spots] if len(spots) <= 40 else [],
        warned=warned,
        intervals=[
            (
                x,
                _height(run_record.audit.low, lowest, highest),
                _height(run_record.audit.high, lowest, highest),
            )
            for x, _, run_record in spots
            if run_record.audit and measure.audited
        ],
    )


def _across(count: int) -> list[float]:
    """Where each night stands: from left to right, one alone in the middle."""
    if count == 1:
        return [(LEFT + RIGHT) / 2]
    return [round(LEFT + (RIGHT - LEFT) * at / (count - 1), 1) for at in range(count)]


def _height(value: float, lowest: float, highest: float) -> float:
    share = (value - lowest) / (highest - lowest) if highest > lowest else 0.5
    return round(BOTTOM - (BOTTOM - TOP) * share, 1)


def _path(values: Sequence[float | None], lowest: float, highest: float) -> str:
    """A line that is broken where a night has no value."""
    words, pen = [], "M"
    for x, value in zip(_across(len(values)), values, strict=True):
        if value is None:
            pen = "M"
            continue
        words.append(f"{pen}{x:g} {_height(value, lowest, highest):g}")
        pen = "L"
    return "".join(words)


def _words(
    measure: Measure, run_records: Sequence[RunRecord], values: Sequence[float | None], warned: int
) -> str:
    known = [
        (value, run_record)
        for value, run_record in zip(values, run_records, strict=True)
        if value is not None
    ]
    (low, at_low), (high, at_high) = (find(known, key=lambda one: one[0]) for find in (min, max))
    said = f"{measure.title} of {len(known)} {'night' if len(known) == 1 else 'nights'}: "
    said += f"lowest {measure.told(low)} on {day(at_low)}, highest {measure.told(high)} on "
    said += f"{day(at_high)}, last {measure.told(known[-1][0])}"
    return said + (f"; {warned} warned" if warned else "")


def _pairs(run_records: Sequence[RunRecord]) -> list[tuple[float, RunRecord, RunRecord | None]]:
    """Where each night stands, it, and the one before."""
    return [*zip(_across(len(run_records)), run_records, [None, *run_records], strict=False)]


def _version(run_record: RunRecord | None) -> str:
    return f"{run_record.model.name}@{run_record.model.version}" if run_record else ""


def _shares(labels: Sequence[str], run_records: Sequence[RunRecord]) -> list[Measure]:
    return [share_of(label, labels) for label in shown(labels, run_records)]


def _cells(
    run_record: RunRecord, labels: Sequence[str], run_records: Sequence[RunRecord]
) -> list[str]:
    measures = (*MEASURES, *_shares(labels, run_records))
    values = [(one, one.value(run_record)) for one in measures]
    return ["–" if value is None else one.told(value) for one, value in values]


def day(run_record: RunRecord) -> str:
    """The day of a night, as people write it."""
    return f"{datetime.datetime.fromisoformat(run_record.started):%-d %b %Y}"


def _headline(run_records: Sequence[RunRecord], warned: int) -> str:
    if not run_records:
        return "No night has been recorded yet"
    count = "one night" if len(run_records) == 1 else f"{len(run_records)} nights"
    told = {0: "none warned", 1: "one warned"}.get(warned, f"{warned} warned")
    return f"{count[:1].upper()}{count[1:]}, {told}"
