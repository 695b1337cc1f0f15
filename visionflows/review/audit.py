"""Audits: the accuracy of a model on the images it scores, from a reviewed random sample."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from visionflows.evaluation.statistics import wilson_interval
from visionflows.review.corrections import Correction


class Estimate(NamedTuple):
    """The accuracy of a scoring run: of `drawn` rows, `reviewed` have an answer."""

    model: str
    scored: str  # when the run ended, ISO 8601
    right: int
    reviewed: int
    drawn: int
    decisions: int = 0  # of several labels: one for each reviewed row and class
    wrong_decisions: int = 0

    @property
    def share(self) -> float:
        return self.right / self.reviewed

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share of right labels in the run."""
        return wilson_interval(self.right, self.reviewed)

    @property
    def description(self) -> str:
        low, high = (f"{100 * share:.1f}" for share in self.interval)
        text = (
            f"{self.right} of {self.reviewed} right: {100 * self.share:.1f} % "
            f"(95 % interval: {low} to {high} %)"
        )
        if not self.decisions:
            return text
        right = self.decisions - self.wrong_decisions
        share = 100 * right / self.decisions
        return f"{text}; {right} of {self.decisions} decisions on a label right: {share:.1f} %"

    def as_dict(self) -> dict[str, Any]:
        low, high = self.interval
        found = {**self._asdict(), "accuracy": self.share, "low": low, "high": high}
        if not self.decisions:
            del found["decisions"], found["wrong_decisions"]
        return found


def estimate_accuracy(corrections: Iterable[Correction]) -> list[Estimate]:
    """An estimate for each audited model and run, the latest run first.

    Only rows drawn at random count. Of several answers for a file in a run the last counts. A row
    of several labels is right if it has all its labels and no other.
    """
    runs: dict[tuple[str, str], dict[str, Correction]] = {}
    for row in corrections:
        if row.why == "audit" and row.answered:
            runs.setdefault((row.scored, row.model), {})[row.sha256 + row.path] = row
    return [
        Estimate(
            *(model, scored, sum(row.right for row in rows.values()), len(rows)),
            drawn=max(len(rows), *(row.drawn for row in rows.values())),
            decisions=sum(row.decisions for row in rows.values()),
            wrong_decisions=sum(row.wrong_decisions for row in rows.values() if row.decisions),
        )
        for (scored, model), rows in sorted(runs.items(), reverse=True)
    ]
