"""The page of all nights of an output: small charts, what was warned of, and a table of it all.

    from visionflows.reports.run_history import history_report
    page = history_report("scores/night", read_nights(place("scores/night")))

A chart is a line of SVG over the nights, in their order, and says in words what it shows.
"""

import dataclasses
import datetime
from collections import Counter
from collections.abc import Callable, Sequence

from visionflows.images.image_status import SEEN
from visionflows.monitoring.run_records import Night
from visionflows.reports.page import page, percent

PAGE = "history.html"
CLASSES, WARNINGS = 8, 100  # shown: the largest, and the newest
OTHERS = "other labels"
LEFT, RIGHT, TOP, BOTTOM = 52, 312, 14, 92  # of a chart, in its own units

Value = Callable[[Night], float | None]


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


def history_report(output: str, nights: Sequence[Night]) -> str:
    """The HTML page of an output's nights, the oldest first."""
    labels = largest(nights)
    starts = [
        (x, night) for x, night, before in _pairs(nights) if _version(before) != _version(night)
    ]
    charts = [chart(one, nights) for one in MEASURES]
    shares = [chart(share_of(label, labels), nights) for label in shown(labels, nights)]
    warnings = [(night, line) for night in nights if night.drift for line in night.drift.warnings]
    return page("history.html").render(
        output=output,
        nights=nights[::-1],
        headline=_headline(nights, len({night.started for night, _ in warnings})),
        found=sum(night.tally.found for night in nights),
        charts=[one for one in charts if one],
        shares=[one for one in shares if one],
        starts=starts,
        first=day(nights[0]) if nights else "",
        last=day(nights[-1]) if nights else "",
        warnings=warnings[::-1][:WARNINGS],
        more=max(len(warnings) - WARNINGS, 0),
        columns=[one.title for one in (*MEASURES, *_shares(labels, nights))],
        rows=[(night, _cells(night, labels, nights)) for night in nights[::-1]],
        day=day,
        plot={"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
    )


def largest(nights: Sequence[Night]) -> list[str]:
    """The labels that are given most over all nights, at most CLASSES."""
    counts: Counter[str] = Counter()
    for night in nights:
        counts.update(night.tally.labels)
    return [label for label, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))][
        :CLASSES
    ]


def shown(labels: Sequence[str], nights: Sequence[Night]) -> list[str]:
    """The labels, and OTHERS where there are any."""
    more = any(night.tally.labels.keys() - set(labels) for night in nights)
    return [*labels, *([OTHERS] if more else [])]


def share_of(label: str, labels: Sequence[str]) -> Measure:
    """The share of a label, or of OTHERS than those named."""

    def share(night: Night) -> float | None:
        counts, whole = night.tally.labels, night.tally.ok
        named = sum(counts.get(one, 0) for one in labels)
        return (
            (whole - named if label == OTHERS else counts.get(label, 0)) / whole if whole else None
        )

    return Measure(label, share, percent, "labels")


def _failed(night: Night) -> float | None:
    found = night.tally.found
    good = sum(night.tally.statuses.get(status, 0) for status in SEEN)
    return (found - good) / found if found else None


def _outliers(night: Night) -> float | None:
    counts = night.tally.outliers
    return counts.get("True", 0) / whole if (whole := sum(counts.values())) else None


MEASURES = (
    Measure("Files", lambda night: night.tally.found, lambda value: f"{value:,.0f}"),
    Measure("Failures", _failed, percent, "failures", highest=0.01),
    Measure(
        "Mean confidence",
        lambda night: night.tally.sure,
        lambda v: f"{v:.3f}",
        "confidence",
        1.0,
        1.0,
    ),
    Measure("Outliers", _outliers, percent, "outliers", highest=0.01),
    Measure(
        "Accuracy found by people",
        lambda night: night.audit.accuracy if night.audit else None,
        percent,
        lowest=1.0,
        highest=1.0,
        audited=True,
    ),
)


def chart(measure: Measure, nights: Sequence[Night]) -> Chart | None:
    """The chart of a measure; None where no night has it."""
    values = [measure.value(night) for night in nights]
    known = [value for value in values if value is not None]
    if not known:
        return None
    bars = [night.audit for night in nights if night.audit and measure.audited]
    lowest = min([measure.lowest, *known, *(bar.low for bar in bars)])
    highest = max([measure.highest, *known, *(bar.high for bar in bars)])
    spots = [
        (x, _height(value, lowest, highest), night)
        for x, night, value in zip(_across(len(nights)), nights, values, strict=True)
        if value is not None
    ]
    warned = [(x, y) for x, y, night in spots if measure.quantity in night.warned_of]
    return Chart(
        title=measure.title,
        last=measure.told(known[-1]),
        words=_words(measure, nights, values, len(warned)),
        path=_path(values, lowest, highest),
        lowest=measure.told(lowest),
        highest=measure.told(highest),
        dots=[(x, y) for x, y, _ in spots] if len(spots) <= 40 else [],
        warned=warned,
        intervals=[
            (
                x,
                _height(night.audit.low, lowest, highest),
                _height(night.audit.high, lowest, highest),
            )
            for x, _, night in spots
            if night.audit and measure.audited
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
    measure: Measure, nights: Sequence[Night], values: Sequence[float | None], warned: int
) -> str:
    known = [
        (value, night) for value, night in zip(values, nights, strict=True) if value is not None
    ]
    (low, at_low), (high, at_high) = (find(known, key=lambda one: one[0]) for find in (min, max))
    said = f"{measure.title} of {len(known)} {'night' if len(known) == 1 else 'nights'}: "
    said += f"lowest {measure.told(low)} on {day(at_low)}, highest {measure.told(high)} on "
    said += f"{day(at_high)}, last {measure.told(known[-1][0])}"
    return said + (f"; {warned} warned" if warned else "")


def _pairs(nights: Sequence[Night]) -> list[tuple[float, Night, Night | None]]:
    """Where each night stands, it, and the one before."""
    return [*zip(_across(len(nights)), nights, [None, *nights], strict=False)]


def _version(night: Night | None) -> str:
    return f"{night.model.name}@{night.model.version}" if night else ""


def _shares(labels: Sequence[str], nights: Sequence[Night]) -> list[Measure]:
    return [share_of(label, labels) for label in shown(labels, nights)]


def _cells(night: Night, labels: Sequence[str], nights: Sequence[Night]) -> list[str]:
    measures = (*MEASURES, *_shares(labels, nights))
    values = [(one, one.value(night)) for one in measures]
    return ["–" if value is None else one.told(value) for one, value in values]


def day(night: Night) -> str:
    """The day of a night, as people write it."""
    return f"{datetime.datetime.fromisoformat(night.started):%-d %b %Y}"


def _headline(nights: Sequence[Night], warned: int) -> str:
    if not nights:
        return "No night has been recorded yet"
    count = "one night" if len(nights) == 1 else f"{len(nights)} nights"
    told = {0: "none warned", 1: "one warned"}.get(warned, f"{warned} warned")
    return f"{count[:1].upper()}{count[1:]}, {told}"
