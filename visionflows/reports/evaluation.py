"""The page of an evaluation: a model on labelled images that it was not trained on."""

from collections.abc import Sequence

from visionflows.models.metrics_schema import EvaluationResult
from visionflows.reports.links import Link, link_to_model
from visionflows.reports.rendering import describe, render
from visionflows.reports.training import TopLoss


def render_evaluation(
    result: EvaluationResult,
    classes: Sequence[str],
    top_losses: Sequence[TopLoss],
    artifact: str,
    folder: str,
) -> str:
    """The HTML page of an evaluation; it lies in `folder`, and the model is at `artifact`."""
    links = [Link(name, name) for name in ("evaluation.csv", "confusion.csv", "evaluation.json")]
    return render(
        "evaluation.html",
        result=result,
        metrics=result.metrics,
        classes=classes,
        top_losses=top_losses,
        left_out={name: count for name, count in result.counts.items() if name != "ok"},
        links=[link_to_model(artifact, folder), *links],
        headline=describe("evaluated", result),
    )
