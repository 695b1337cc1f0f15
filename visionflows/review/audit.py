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
        return (
            f"{self.right} of {self.reviewed} right: {100 * self.share:.1f} % "
            f"(95 % interval: {low} to {high} %)"
        )

    def as_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {**self._asdict(), "accuracy": self.share, "low": low, "high": high}


def estimate_accuracy(corrections: Iterable[Correction]) -> list[Estimate]:
    """An estimate for each audited model and run, the latest run first.

    Only rows drawn at random count. Of several answers for a file in a run the last counts.
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
