"""Evaluate a model on labelled images that it was not trained on.

    evaluation.json    the metrics (visionflows.models.metrics_schema.Metrics) and the counts
    evaluation.csv     path,status,label,predicted,confidence,error of each image
    confusion.csv      actual,predicted,images
    report.html        the page

Images that the model was trained on, or near-duplicates of them, are left out and counted.
"""

import csv
import datetime
import io
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visionflows.datasets.fetch import Dataset
from visionflows.datasets.label_rules import label_rows, parse_label_rule
from visionflows.errors import ModelError, SettingsError
from visionflows.evaluation.calibration import expected_calibration_error, reliability_bins
from visionflows.evaluation.metrics import compute_metrics, confusion_csv
from visionflows.images.formats import ImageFilter
from visionflows.images.near_duplicates import first_duplicate, signature_array
from visionflows.inference.decoding import Row
from visionflows.inference.engine import Engine
from visionflows.models.artifact import Model
from visionflows.models.metrics_schema import EvaluationResult
from visionflows.reports.evaluation import render_evaluation
from visionflows.reports.thumbnails import read_thumbnail
from visionflows.reports.training import TopLoss
from visionflows.storage import open_storage
from visionflows.storage.base import SkippedFiles
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name, encode_name

log = logging.getLogger("visionflows.evaluate")

TOP_LOSSES = 24  # on the page
HEADER = ("path", "status", "label", "predicted", "confidence", "error")


class Labelled(NamedTuple):
    """An image with its label; empty with the reason `why` if the rule gives it none."""

    path: str
    label: str
    why: str


class Evaluated(NamedTuple):
    """A labelled image and what the model says of it."""

    image: Labelled
    row: Row
    status: str  # that of the row, or why the image is not evaluated
    error: str


def label_images(folder: Path, labels: str) -> list[Labelled]:
    """The images in a folder with their labels. Raises SettingsError, StorageError, TableError."""
    images = LocalStorage(folder)
    is_image = ImageFilter(images.head)
    names = (entry.name for entry in images.walk(None, SkippedFiles()))
    paths = [encode_name(name) for name in names if is_image(name)]
    if not paths:
        raise SettingsError(f"{folder}: no image found; name a folder of labelled images")
    rows, notes = label_rows(parse_label_rule(labels), images.root, paths)
    for note in notes:
        log.info("note: %s", note)
    return [Labelled(row["path"], row["label"], row["why"]) for row in rows]


def evaluate(engine: Engine, folder: Path, images: Sequence[Labelled]) -> list[Evaluated]:
    """What the model says of each image, in order.

    A status other than `ok` says why an image is not evaluated: those of scoring, `unlabelled`,
    `unknown_class` (the model does not know the label), and `trained_on`.
    """
    engine.decoder.find_duplicates = True  # rows then have the signature of their image
    names = [decode_name(image.path) for image in images]
    rows = [*engine.predict_rows(LocalStorage(folder), names)]
    trained_on = _trained_on(engine.model, rows)
    return [
        Evaluated(image, row, *_status(engine.model, image, row, trained))
        for image, row, trained in zip(images, rows, trained_on, strict=True)
    ]


def _status(model: Model, image: Labelled, row: Row, trained_on: bool) -> tuple[str, str]:
    if not image.label:
        return "unlabelled", image.why
    if row.status != "ok":
        return row.status, row.error
    if image.label not in model.classes:
        return "unknown_class", "the model does not know this class"
    if trained_on:
        return "trained_on", "the model was trained on this image or a near-duplicate"
    return "ok", ""


def _trained_on(model: Model, rows: Sequence[Row]) -> list[bool]:
    """Whether the model was trained on each image, or on a near-duplicate of it."""
    text = model.files.read("files.csv").decode()
    files = [*csv.DictReader(io.StringIO(text, newline=""))]
    files = [row for row in files if row["is_valid"] != "True"]
    known = {row["sha256"] for row in files}
    signatures = [row["signature"] for row in files]
    signatures += [row.extra_cells[-1] if row.extra_cells else "" for row in rows]
    similar = first_duplicate(signature_array(signatures), len(files))[len(files) :]
    return [row.sha256 in known or near >= 0 for row, near in zip(rows, similar, strict=True)]


def write_evaluation(
    engine: Engine, dataset: Dataset, labels: str, output: str
) -> EvaluationResult:
    """Evaluate a model on a labelled dataset, and write the files above into `output`.

    evaluation.json is written last. Raises ModelError if no image can be evaluated.
    """
    model, storage = engine.model, open_storage(output)
    results = evaluate(engine, dataset.folder, label_images(dataset.folder, labels))
    usable = [result for result in results if result.status == "ok"]
    counts = dict(Counter(result.status for result in results))
    if not usable:
        reasons = ", ".join(f"{count} {status}" for status, count in counts.items())
        raise ModelError(f"{dataset.source}: no image to evaluate {model.name} on: {reasons}")
    predicted = np.array([result.row.label for result in usable])
    targets = np.array([model.classes.index(result.image.label) for result in usable])
    confidence = np.array([_prediction(model, result.row)[1] for result in usable])
    bins = reliability_bins(confidence, predicted == targets)
    metrics = compute_metrics(predicted, targets, model.classes)
    content = {
        "schema_version": EvaluationResult.VERSION,
        **{"model": model.name, "digest": model.digest, "source": dataset.source},
        **{"labels": labels, "counts": counts, "metrics": metrics},
        "evaluated": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **{"ece": expected_calibration_error(bins), "bins": bins},
    }
    evaluation = EvaluationResult.model_validate(content, strict=False)
    storage.write("evaluation.csv", evaluation_csv(model, results))
    storage.write("confusion.csv", confusion_csv(metrics["confusion"], model.classes))
    losses = _top_losses(model, dataset.folder, usable)
    page = render_evaluation(evaluation, model.classes, losses, str(model.storage), output)
    storage.write("report.html", page.encode())
    storage.write("evaluation.json", evaluation.text())
    return evaluation


def evaluation_csv(model: Model, results: Iterable[Evaluated]) -> bytes:
    """evaluation.csv: the label and the prediction of each image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(HEADER)
    for image, row, status, error in results:
        predicted, confidence = _prediction(model, row)
        shown = f"{confidence:.6f}" if predicted else ""
        writer.writerow([image.path, status, image.label, predicted, shown, error])
    return text.getvalue().encode()


def _prediction(model: Model, row: Row) -> tuple[str, float]:
    """The label and confidence of a row; empty if it has none."""
    if row.probabilities is None:
        return "", 0.0
    return model.classes[row.label], float(row.probabilities[row.label])


def _top_losses(model: Model, folder: Path, results: Iterable[Evaluated]) -> list[TopLoss]:
    """The most confident wrong labels, with their photos."""
    predictions = [(result.image, *_prediction(model, result.row)) for result in results]
    wrong = [one for one in predictions if one[1] != one[0].label]
    source = LocalStorage(folder)
    return [
        TopLoss(image.path, image.label, predicted, confidence, photo, b"")
        for image, predicted, confidence in sorted(wrong, key=lambda one: -one[2])[:TOP_LOSSES]
        if (photo := read_thumbnail(source, image.path))
    ]
