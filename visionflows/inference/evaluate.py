"""Evaluate an engine on labelled images that its model was not trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from visionflows.evaluation.calibration import expected_calibration_error, reliability_bins
from visionflows.evaluation.label_decisions import pair_calibration
from visionflows.evaluation.label_metrics import compute_label_metrics
from visionflows.evaluation.metrics import compute_metrics
from visionflows.images.near_duplicates import first_duplicate, group_duplicates, signature_array
from visionflows.inference.decoding import Row
from visionflows.inference.engine import Engine
from visionflows.inference.labels import label_and_confidence
from visionflows.label_sets import class_names, indicators
from visionflows.models.artifact import Model
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name


class Labelled(NamedTuple):
    """An image with its label; `why` is the reason if the rule gives it none."""

    path: str
    label: str
    why: str


class Evaluated(NamedTuple):
    """A labelled image and what the model says of it."""

    image: Labelled
    row: Row
    status: str  # that of the row, or why the image is not evaluated
    error: str


def evaluate(
    engine: Engine,
    folder: Path,
    images: Sequence[Labelled],
    trained_on: Sequence[tuple[str, str]],
) -> list[Evaluated]:
    """What the model says of each image, in order.

    `trained_on` are the sha256 and the signature of each training image. A status other than `ok`
    says why an image is not evaluated: those of scoring, `unlabelled`, `unknown_class` (the model
    does not know the label), and `trained_on`.
    """
    engine.decoder.find_duplicates = True  # rows then have the signature of their image
    names = [decode_name(image.path) for image in images]
    rows = [*engine.predict_rows(LocalStorage(folder), names)]
    classes, several = frozenset(engine.model.classes), engine.model.info.multi_label
    return [
        Evaluated(image, row, *_status(classes, several, image, row, trained))
        for image, row, trained in zip(images, rows, _are_known(rows, trained_on), strict=True)
    ]


def _status(
    classes: frozenset[str], several: bool, image: Labelled, row: Row, trained_on: bool
) -> tuple[str, str]:
    if image.why:
        return "unlabelled", image.why
    if row.status != "ok":
        return row.status, row.error
    if not classes.issuperset(class_names(image.label, several)):
        return "unknown_class", "the model does not know this class"
    if trained_on:
        return "trained_on", "the model was trained on this image or a near-duplicate"
    return "ok", ""


def _are_known(rows: Sequence[Row], trained_on: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether each image is a training image, or a near-duplicate of one."""
    known = {sha256 for sha256, _ in trained_on}
    signatures = [signature for _, signature in trained_on]
    signatures += map(_signature, rows)
    similar = first_duplicate(signature_array(signatures), len(trained_on))[len(trained_on) :]
    return [row.sha256 in known or near >= 0 for row, near in zip(rows, similar, strict=True)]


def _signature(row: Row) -> str:
    return row.extra_cells[-1] if row.extra_cells else ""


def measure(model: Model, results: Sequence[Evaluated]) -> dict[str, Any]:
    """The metrics of results that are `ok`, at least one.

    Keys: metrics (those of `compute_metrics`), ece (expected calibration error) and bins.
    """
    signatures = [_signature(result.row) for result in results]
    groups = group_duplicates(signature_array(signatures))
    if model.info.multi_label:
        decided, wanted, scores = label_arrays(model, results)
        metrics = compute_label_metrics(decided, wanted, scores, model.classes, groups)
        return {"metrics": metrics, **pair_calibration(scores, wanted)}
    predicted = np.array([result.row.label for result in results])
    index = {name: at for at, name in enumerate(model.classes)}
    targets = np.array([index[result.image.label] for result in results])
    confidence = np.array([prediction(model, result.row)[1] for result in results])
    bins = reliability_bins(confidence, predicted == targets)
    metrics = compute_metrics(predicted, targets, model.classes, groups)
    return {"metrics": metrics, "ece": expected_calibration_error(bins), "bins": bins}


def prediction(model: Model, row: Row) -> tuple[str, float]:
    """The label and confidence of a row; empty if it has none."""
    return ("", 0.0) if row.probabilities is None else label_and_confidence(row, model.classes)


def label_arrays(
    model: Model, results: Sequence[Evaluated]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The given labels, the right ones (bool) and the probabilities, (n, classes) each."""
    decided = np.zeros((len(results), len(model.classes)), bool)
    for at, result in enumerate(results):
        decided[at, [*result.row.labels]] = True
    wanted = indicators([result.image.label for result in results], model.classes)
    found = [result.row.probabilities for result in results]
    return decided, wanted, np.stack([one for one in found if one is not None])
