"""How right a model is on what it really scores: from the random sample that people looked at.

    from visionflows.review.audit import estimates
    for one in estimates(corrections):
        print(one.words)                   # 95 of 100 right: 95 % (95 % interval: 88.8 to 97.8 %)

Only rows that were drawn at random count (`why` is audit): those that were picked for being
doubtful are wrong more often than others.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from visionflows.review.corrections import Correction

# Wilson's score interval (E. B. Wilson, JASA 22, 1927), which L. Brown, T. Cai and A. DasGupta
# (Statistical Science 16, 2001) recommend for few and many, near 100 % too.
Z = 1.959963984540054  # of a normal distribution 95 % lie within so many deviations


class Estimate(NamedTuple):
    """What an audit says of a scoring run: so many were drawn, looked at, and found right."""

    model: str
    scored: str  # when the run ended, ISO 8601
    right: int
    looked_at: int
    drawn: int

    @property
    def share(self) -> float:
        """The share of right labels among those looked at."""
        return self.right / self.looked_at

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share of right labels in the whole run."""
        return wilson(self.right, self.looked_at)

    @property
    def words(self) -> str:
        """The same for a person."""
        low, high = (f"{100 * share:.1f}" for share in self.interval)
        return (
            f"{self.right} of {self.looked_at} right: {100 * self.share:.1f} % "
            f"(95 % interval: {low} to {high} %)"
        )

    def as_dict(self) -> dict[str, Any]:
        """The same for machines."""
        low, high = self.interval
        return {**self._asdict(), "accuracy": self.share, "low": low, "high": high}


def wilson(right: int, looked_at: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a share, of which `looked_at` (one or more) were drawn."""
    share, per = right / looked_at, Z * Z / looked_at
    middle = share + per / 2
    spread = Z * math.sqrt(share * (1 - share) / looked_at + per / (4 * looked_at))
    return max((middle - spread) / (1 + per), 0.0), min((middle + spread) / (1 + per), 1.0)


def estimates(corrections: Iterable[Correction]) -> list[Estimate]:
    """An estimate for each model and run that was audited, the latest run first.

    Of several answers for one file in one run the last counts. A file that is none of the classes
    was labelled wrong.
    """
    runs: dict[tuple[str, str], dict[str, Correction]] = {}
    for row in corrections:
        if row.why == "audit" and row.answered:
            runs.setdefault((row.scored, row.model), {})[row.sha256 + row.path] = row
    return [
        Estimate(
            *(model, scored, sum(row.right for row in rows.values()), len(rows)),
            drawn=max(len(rows), *(row.drawn for row in rows.values())),
        )
        for (scored, model), rows in sorted(runs.items(), reverse=True)
    ]
