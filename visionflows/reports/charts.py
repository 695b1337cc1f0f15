"""Line charts as SVG, drawn by the macro `line_chart` of parts.html."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

FEWEST_POINTS = 3  # fewer are shown as figures, not as a chart
MOST_DOTS = 40  # points of a series that are marked with a dot

Values = Sequence[float | None]


@dataclasses.dataclass(frozen=True)
class LineChart:
    """Series over the same points, from left to right; None is a gap in a line.

    `labels` are those of the first and the last point. `bounds` are values that the axis includes.
    `dashes` are points with a vertical line, `rings` points of the first series with a ring, and
    `intervals` the lower and upper bound at some points.
    """

    left: ClassVar[int] = 52  # of the plot, in units of the SVG's 320 × 120
    right: ClassVar[int] = 312
    top: ClassVar[int] = 14
    bottom: ClassVar[int] = 92

    title: str
    series: Mapping[str, Values]
    labels: tuple[str, str]
    format: Callable[[float], str]
    bounds: tuple[float, ...] = ()
    note: str = ""
    description: str = ""
    dashes: Sequence[int] = ()
    rings: Sequence[int] = ()
    intervals: Mapping[int, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @property
    def is_worth_drawing(self) -> bool:
        """Whether a series has enough points for a line."""
        return any(len(_known(values)) >= FEWEST_POINTS for values in self.series.values())

    @functools.cached_property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest value of the axis."""
        values = [*self.bounds, *(bound for pair in self.intervals.values() for bound in pair)]
        for series in self.series.values():
            values += _known(series)
        return min(values), max(values)

    def x(self, point: int) -> float:
        """The horizontal position of a point."""
        last = max(len(values) for values in self.series.values()) - 1
        return round(self.left + (self.right - self.left) * point / last, 1)

    def y(self, value: float) -> float:
        """The vertical position of a value."""
        lowest, highest = self.limits
        share = (value - lowest) / (highest - lowest) if highest > lowest else 0.5
        return round(self.bottom - (self.bottom - self.top) * share, 1)

    def dots(self, values: Values) -> list[tuple[float, float]]:
        """The positions of a series' points; none if there are too many to tell apart."""
        if len(values) > MOST_DOTS:
            return []
        return [(self.x(at), self.y(value)) for at, value in enumerate(values) if value is not None]

    def path(self, values: Values) -> str:
        """A series as an SVG path, which is broken where a value is missing."""
        steps, command = [], "M"
        for at, value in enumerate(values):
            if value is not None:
                steps.append(f"{command}{self.x(at):g} {self.y(value):g}")
            command = "M" if value is None else "L"
        return "".join(steps)


def _known(values: Values) -> list[float]:
    return [value for value in values if value is not None]
