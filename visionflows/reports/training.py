"""The training report of a model: metrics, errors, calibration, evidence and settings."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from visionflows.models.metrics_schema import Agreement, Outliers, TestMetrics
from visionflows.models.schema import Epoch, LearningRates, ModelInfo, Split, Training
from visionflows.reports.charts import LineChart
from visionflows.reports.links import Link
from visionflows.reports.metrics import LEFT_OUT, confusion_values
from visionflows.reports.rendering import format_count, format_percent, render

_CURVES = (
    ("Loss", ("train_loss", "valid_loss"), (0.0,)),
    ("Error rate and accuracy", ("error_rate", "accuracy"), (0.0, 1.0)),
)
_SKIPPED = 5  # points at the end of lr_find, where the loss diverges; fastai's plot skips them too


class TopLoss(NamedTuple):
    """A misclassified validation image; `picture` and `heat_map` (Grad-CAM) are JPEGs.

    `probability` is that of the predicted class. `heat_map` is empty if it is unknown.
    """

    path: str
    label: str
    predicted: str
    probability: float
    picture: bytes
    heat_map: bytes


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
    metrics, precision = model.metrics, model.precision
    agreements = [found for found in (precision.agreement, precision.int8) if found]
    return render(
        "training.html",
        model=model,
        metrics=metrics,
        pictures=pictures,
        summary=summary,
        review_shares=review_shares,
        top_losses=top_losses,
        label_issues=label_issues,
        curves=draw_curves(model),
        recipe=describe_recipe(model.training),
        split=describe_split(model.split),
        test=describe_test(model.test) if model.test else "",
        selection=model.training.selection,
        outliers=describe_outliers(model.outliers) if model.outliers else "",
        agreements=[describe_agreement(found) for found in agreements],
        links=_links(model),
        headline=(
            f"{format_percent(metrics.accuracy)} accuracy on "
            f"{format_count(model.dataset.valid, 'validation image')} of "
            f"{format_count(len(model.classes), 'class', 'classes')}"
        ),
        **confusion_values(metrics.confusion, model.classes),
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
        for title, names, bounds in _CURVES
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


def describe_agreement(found: Agreement) -> str:
    """The default precision of scoring and why, and how a faster one compares with float32."""
    if found.labels is None:
        return f"Default precision is float32: {found.why}."
    scope = " on devices like this one, else float32" if found.auto != "float32" else ""
    changed = f"{found.precision} changed a confident prediction"
    reason = f" because {changed if found.far_disagreements else found.why}" if found.why else ""
    compared = (
        f"{found.precision} gives {format_percent(found.labels)} of {found.images:,} images the "
        f"label of float32; the largest difference of a probability is "
        f"{found.largest_difference:.4f}."
    )
    if found.disagreements:
        compared += (
            f" {format_count(found.disagreements, 'label')} changed, "
            f"{found.far_disagreements:,} of them a confident prediction."
        )
    if found.trained_on:
        compared += f" {found.trained_on:,} of the images are training images."
    if found.kernel:
        compared += f" Measured with {found.kernel}, {found.library}."
    return f"Default precision is {found.auto}{scope}{reason}. {compared}"


def describe_split(split: Split) -> str:
    """How images were chosen to validate on, without a full stop."""
    if split.given_by:
        return f"given by the {'CSV' if split.given_by == 'csv' else split.given_by}"
    groups = f" and groups ({split.group})" if split.group else ""
    return (
        f"seed {split.seed}, validation share {split.valid_pct}, stratified; near-duplicates"
        f"{groups} stay on one side"
    )


def describe_test(test: TestMetrics) -> str:
    """The metrics of the test images and how many were left out, without a full stop."""
    found, metrics = test.why, test.metrics
    if metrics:
        low, high = metrics.interval or (0.0, 1.0)
        found = (
            f"error rate {metrics.error_rate:.4f}, accuracy {metrics.accuracy:.4f} (95 % interval "
            f"{low:.4f} to {high:.4f}), balanced accuracy {metrics.balanced_accuracy:.4f}, macro "
            f"F1 {metrics.macro_f1:.4f}, calibration error {test.ece:.4f} on "
            f"{format_count(test.counts['ok'], 'test image')}"
        )
    left_out = [
        f"{count:,} because {LEFT_OUT.get(status, status)}"
        for status, count in test.counts.items()
        if status != "ok"
    ]
    return found + (f"; left out: {', '.join(left_out)}" if left_out else "")


def describe_recipe(training: Training) -> str:
    """How a model was trained, as one or two sentences."""
    unfrozen = format_count(training.epochs, "unfrozen epoch")
    ran = sum(epoch.phase != "frozen" for epoch in training.history)
    if 0 < ran < training.epochs:
        unfrozen = f"{ran} of {unfrozen} (stopped early)"
    rate = f"base learning rate {training.base_lr:.3g}"
    if training.recipe == "fastai":
        frozen = format_count(training.freeze_epochs, "frozen epoch")
        return f"Trained with fastai's fine_tune: {frozen} and {unfrozen}, {rate}."
    probe = "A linear probe: logistic regression on the features of the pretrained network."
    if not training.history:
        return probe
    done = format_count(len(training.history), "epoch")
    return f"Fine-tuned from a linear probe: {done} of a one-cycle of {training.epochs}, {rate}."


def describe_outliers(found: Outliers) -> str:
    """How outliers are detected and the false alarms on validation images, or why they are not."""
    if found.threshold is None:
        return f"Scoring with this model detects no outliers: {found.why}."
    alarms = " and ".join(
        f"{format_percent(share)} in {precision}" for precision, share in found.false_alarms.items()
    )
    return (
        f"Scoring marks {alarms} of {found.tested:,} validation images as outliers (false alarms). "
        f"The method is {found.method} among the features of {found.images:,} training images. "
        f"The threshold is set for {format_percent(found.wanted)} false alarms on "
        f"{found.fitted:,} other validation images."
    )
