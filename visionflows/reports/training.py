"""The page of a trained model: how good it is, where it errs, what it saw.

from visionflows.reports.training import training_report
page = training_report(info, {"confusion": png}, summary)
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from visionflows.models.metrics_schema import Agreement, Outliers
from visionflows.models.schema import ModelInfo
from visionflows.reports.page import page, percent

CONFUSED = 20  # pairs of classes
_PICTURES = (
    (
        "results",
        "Right and wrong",
        "validation images: the label, then the network's; green is right",
    ),
    (
        "top_losses",
        "The worst misses",
        "said / is / loss / probability, the most confident wrong first",
    ),
    ("confusion", "What is taken for what", "validation images by their class and the network's"),
    ("curves", "Loss and metrics", "an epoch a point"),
    ("batch", "What the network sees", "a training batch, resized and augmented"),
)


class TopLoss(NamedTuple):
    """An image that got a wrong label, and its probability. `picture` is a JPEG.

    So is `why`, where it is known: the picture under the heat map of what spoke for that label.
    """

    path: str
    label: str
    said: str
    probability: float
    picture: bytes
    why: bytes


def training_report(
    model: ModelInfo,
    pictures: dict[str, bytes],
    summary: str,
    top_losses: Sequence[TopLoss] = (),
    left: Sequence[tuple[float, float]] = (),
    label_issues: Sequence[Any] = (),
) -> str:
    """The HTML page of a model (the content of model.json), with PNG bytes by name.

    `summary` is what fastai's learn.summary() says of the frozen network; `misses` are shown in
    place of the picture `top_losses`; `left` is the share of rows that precisions of the others
    leave to people, `suspects` the images whose labels are the likeliest to be wrong
    (training.suspects.Suspect).
    """
    metrics = model.metrics
    return page("training.html").render(
        model=model,
        metrics=metrics,
        pictures=pictures,
        summary=summary,
        left=left,
        top_losses=top_losses,
        confused=_confused(model),
        label_issues=label_issues,
        shown=[picture for picture in _PICTURES if picture[0] in pictures],
        outliers=outliers_line(model.outliers) if model.outliers else "",
        agreement=[
            agreement_line(found)
            for found in (model.precision.agreement, model.precision.int8)
            if found is not None
        ],
        headline=(
            f"{model.name} tells {len(model.classes)} classes apart and is right about "
            f"{percent(metrics.accuracy)} of images it was not trained on"
        ),
    )


def _confused(model: ModelInfo) -> list[tuple[str, str, int, float]]:
    """What images are, what they were taken for, how many, the share of their class; most first.

    None of two classes, where the matrix says it all.
    """
    rows = model.metrics.confusion if len(model.classes) > 2 else ()
    found = [
        (model.classes[at], model.classes[said], count, count / sum(row))
        for at, row in enumerate(rows)
        for said, count in enumerate(row)
        if count and said != at
    ]
    return sorted(found, key=lambda pair: -pair[2])[:CONFUSED]


def agreement_line(found: Agreement) -> str:
    """How a faster precision compares with float32, in words, and which scoring takes by itself."""
    if found.labels is None:
        return f"Scores in float32: {found.why}."
    disagreements = f"{found.disagreements} labels differ"
    ties = (
        f"{found.far_disagreements} of them no near ties"
        if found.far_disagreements
        else "all near ties"
    )
    told = (
        f"In {found.precision} {percent(found.labels)} of {found.images:,} labels are "
        f"those of float32 ({disagreements}{', ' + ties if found.disagreements else ''}); the largest "
        f"difference of a probability is {found.largest_difference:.4f}."
    )
    if found.trained_on:
        told += f" {found.trained_on:,} of these images were trained on."
    if found.kernel:
        told += f" Measured by {found.kernel}, {found.library or f'torch {found.torch}'}."
    where = " on such a device, and float32 elsewhere" if found.auto != "float32" else ""
    why = f": {found.why}" if found.why else ""
    return f"{told} By itself scoring takes {found.auto}{where}{why}."


def outliers_line(found: Outliers) -> str:
    """How pictures of another kind are told, and how often ours are taken for such; or why not."""
    if found.threshold is None:
        return f"Scoring tells no pictures of another kind: {found.why}."
    alarms = " and ".join(
        f"{percent(share)} in {precision}" for precision, share in found.false_alarms.items()
    )
    return (
        f"By {found.method} among {found.images:,} training images scoring tells pictures of "
        f"another kind. Of {found.judged:,} validation images it takes {alarms} for such; "
        f"{found.fitted:,} others set the threshold, for {percent(found.wanted)}."
    )
