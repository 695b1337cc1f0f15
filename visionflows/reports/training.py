"""The training report of a model: metrics, errors, calibration, evidence and settings."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from visionflows.label_sets import split_labels
from visionflows.models.schema import Epoch, LearningRates, ModelInfo
from visionflows.reports.charts import LineChart
from visionflows.reports.links import Link
from visionflows.reports.rendering import describe, format_count, render

_LOSS = ("Loss", ("train_loss", "valid_loss"), (0.0,))
_CURVES = {  # by whether a photo has several labels
    False: (_LOSS, ("Error rate and accuracy", ("error_rate", "accuracy"), (0.0, 1.0))),
    True: (_LOSS, ("Average precision and F1", ("mean_average_precision", "micro_f1"), (0.0, 1.0))),
}
_SKIPPED = 5  # points at the end of lr_find, where the loss diverges; fastai's plot skips them too


class TopLoss(NamedTuple):
    """A misclassified validation image; `picture` and `heat_map` (Grad-CAM) are JPEGs.

    `probability` is that of the predicted class. `heat_map` is empty if it is unknown. With several
    labels, `mistake` is the class of the most confident wrong one, given or missed.
    """

    path: str
    label: str
    predicted: str
    probability: float
    picture: bytes
    heat_map: bytes
    mistake: str = ""

    @property
    def is_missed(self) -> bool:
        """Whether the mistake is a label that the model did not give."""
        return self.mistake in split_labels(self.label)


def render_training_report(
    model: ModelInfo,
    pictures: Mapping[str, bytes],
    summary: str,
    top_losses: Sequence[TopLoss] = (),
    review_shares: Sequence[tuple[float, float]] = (),
    label_issues: Sequence[Any] = (),
) -> str:
    """The HTML report of a model (the content of model.json).

    `pictures` are PNGs drawn by fastai: batch, results, top_losses. `summary` is fastai's
    learn.summary() of the frozen network. `review_shares` are pairs of a minimum precision and the
    share of rows it marks for review. `label_issues` are the likeliest wrong labels.
    """
    return render(
        "training.html",
        model=model,
        metrics=model.metrics,
        pictures=pictures,
        summary=summary,
        review_shares=review_shares,
        top_losses=top_losses,
        label_issues=label_issues,
        curves=draw_curves(model),
        links=_links(model),
        headline=describe("trained", model),
    )


def _links(model: ModelInfo) -> list[Link]:
    """Links to the files of the artifact, and to the report of the version in production before."""
    names = ["validation.csv", "files.csv", "model.json"]
    if model.metrics.confusion:
        names.insert(0, "confusion.csv")
    links = [Link(name, name) for name in names]
    if parent := model.lineage.parent:
        title = f"Training report of {model.name}@{parent}"
        links.insert(0, Link(title, f"../{parent}/report.html"))
    return links


def draw_curves(model: ModelInfo) -> list[LineChart]:
    """The charts of losses and of metrics by epoch, if there are three or more, and of lr_find."""
    epochs = model.training.history
    unfrozen = [at for at, epoch in enumerate(epochs) if epoch.phase != "frozen"]
    charts = [
        LineChart(
            title,
            {name: [_finite(getattr(epoch, name)) for epoch in epochs] for name in names},
            ("epoch 1", f"epoch {len(epochs)}"),
            lambda value: f"{value:.3g}",
            bounds,
            note="dashed: the first unfrozen epoch" if any(unfrozen[:1]) else "",
            description=_describe_curves(title, epochs, names),
            dashes=[at for at in unfrozen[:1] if at],
        )
        for title, names, bounds in _CURVES[model.multi_label]
    ]
    if model.training.lr_find and len(model.training.lr_find.losses) > _SKIPPED:
        charts.append(_draw_learning_rates(model.training.lr_find))
    return [chart for chart in charts if chart.is_worth_drawing]


def _draw_learning_rates(found: LearningRates) -> LineChart:
    """The curve of lr_find; its rates grow by the same factor from point to point."""
    losses = [_finite(loss) for loss in found.losses[:-_SKIPPED]]
    distances = [abs(math.log(rate / found.suggested)) for rate in found.rates[:-_SKIPPED]]
    suggested = f"{found.suggested:.2g}"
    return LineChart(
        "Learning rate finder",
        {"loss": losses},
        (f"{found.rates[0]:.0e}", f"{found.rates[len(losses) - 1]:.0e}"),
        lambda value: f"{value:.3g}",
        note=f"dashed: the rate it suggests, {suggested}",
        description=f"Loss by learning rate; suggested: {suggested}",
        dashes=[distances.index(min(distances))],
    )


def _describe_curves(title: str, epochs: Sequence[Epoch], names: Sequence[str]) -> str:
    last = ", ".join(f"{name} {getattr(epochs[-1], name):.4f}" for name in names if epochs)
    return f"{title} of {format_count(len(epochs), 'epoch')}; last: {last}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
