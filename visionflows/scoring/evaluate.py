"""Evaluate a model on labelled images that it was not trained on.

    evaluation.json    the metrics (visionflows.models.metrics_schema.Metrics) and the counts
    evaluation.csv     path,status,label,predicted,confidence,error of each image
    confusion.csv      actual,predicted,images
    report.html        the page

Images that the model was trained on, or near-duplicates of them, are left out and counted.
"""

import datetime
import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from visionflows.datasets.fetch import Dataset
from visionflows.datasets.label_rows import label_rows
from visionflows.datasets.label_rules import LabelRule, parse_label_rule
from visionflows.errors import ModelError, SettingsError
from visionflows.evaluation.metrics import confusion_csv
from visionflows.images.formats import ImageFilter
from visionflows.inference.engine import Engine
from visionflows.inference.evaluate import (
    Evaluated,
    Labelled,
    evaluate,
    label_arrays,
    measure,
    prediction,
)
from visionflows.models.artifact import Model, read_files_csv
from visionflows.models.metrics_schema import EvaluationResult
from visionflows.reports.evaluation import render_evaluation
from visionflows.reports.thumbnails import read_thumbnail
from visionflows.reports.training import TopLoss
from visionflows.storage import open_storage, own_locations
from visionflows.storage.base import SkippedFiles, Storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import encode_name

log = logging.getLogger("visionflows.evaluate")

TOP_LOSSES = 24  # on the page
HEADER = ("path", "status", "label", "predicted", "confidence", "error")


def label_images(folder: Path, rule: LabelRule, own: tuple[Storage, ...] = ()) -> list[Labelled]:
    """The images in a folder with their labels; none of those in `own`.

    Raises SettingsError, StorageError, TableError.
    """
    images, skipped = LocalStorage(folder), SkippedFiles(own=own)
    found = ImageFilter(images.heads)(images.walk(None, skipped))
    paths = [encode_name(entry.name) for entry in found]
    for line in skipped.lines():
        log.info("%s", line)
    if not paths:
        raise SettingsError(f"{folder}: no image found; name a folder of labelled images")
    rows, notes, _ = label_rows(rule, images.root, paths)
    for note in notes:
        log.info("note: %s", note)
    return [Labelled(row["path"], row["label"], row["why"]) for row in rows]


def write_evaluation(
    engine: Engine, dataset: Dataset, labels: str | LabelRule, output: str, store: str = ""
) -> EvaluationResult:
    """Evaluate a model on a labelled dataset, and write the files above into `output`.

    The options of the training's labels hold, if the rule does not say otherwise.
    A store or output in the dataset is no part of it.
    evaluation.json is written last. Raises ModelError if no image can be evaluated.
    """
    model, storage = engine.model, open_storage(output)
    files = [row for row in read_files_csv(model.files) if row["is_valid"] != "True"]
    trained_on = [(row["sha256"], row["signature"]) for row in files]
    rule = parse_label_rule(labels) if isinstance(labels, str) else labels
    rule = rule.repeat(model.info.label_sep, model.info.multi_label, model.info.missing)
    images = label_images(dataset.folder, rule, own_locations(store, output))
    results = evaluate(engine, dataset.folder, images, trained_on)
    usable = [result for result in results if result.status == "ok"]
    counts = dict(Counter(result.status for result in results))
    if not usable:
        reasons = ", ".join(f"{count} {status}" for status, count in counts.items())
        raise ModelError(f"{dataset.source}: no image to evaluate {model.name} on: {reasons}")
    measured = measure(model, usable)
    content = {
        "schema_version": EvaluationResult.VERSION,
        **{"model": model.name, "digest": model.digest, "source": dataset.source},
        **{"labels": str(rule), "counts": counts, **measured},
        "evaluated": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    evaluation = EvaluationResult.model_validate(content, strict=False)
    storage.write("evaluation.csv", evaluation_csv(model, results))
    storage.write("confusion.csv", confusion_csv(measured["metrics"]["confusion"], model.classes))
    losses = _top_losses(model, dataset.folder, usable)
    page = render_evaluation(evaluation, model.classes, losses, str(model.storage), output)
    storage.write("report.html", page.encode())
    storage.write("evaluation.json", evaluation.text())
    return evaluation


def evaluation_csv(model: Model, results: Iterable[Evaluated]) -> bytes:
    """evaluation.csv: the label and the prediction of each image."""
    import pandas as pd

    rows = []
    for image, row, status, error in results:
        predicted, confidence = prediction(model, row)
        shown = "" if row.probabilities is None else f"{confidence:.6f}"
        rows.append((image.path, status, image.label, predicted, shown, error))
    return pd.DataFrame(rows, columns=HEADER).to_csv(index=False, lineterminator="\r\n").encode()


def _top_label_losses(model: Model, folder: Path, results: list[Evaluated]) -> list[TopLoss]:
    """The images with the most confident wrong decisions of several labels, with their photos."""
    decided, wanted, probabilities = label_arrays(model, results)
    certain = np.where(decided, probabilities, 1 - probabilities) * (decided != wanted)
    source, losses = LocalStorage(folder), []
    for at in np.argsort(-certain.max(1), kind="stable")[:TOP_LOSSES].tolist():
        image, worst = results[at].image, int(certain[at].argmax())
        if certain[at, worst] and (photo := read_thumbnail(source, image.path)):
            predicted, _ = prediction(model, results[at].row)
            confidence, mistake = float(certain[at, worst]), model.classes[worst]
            losses.append(
                TopLoss(image.path, image.label, predicted, confidence, photo, b"", mistake)
            )
    return losses


def _top_losses(model: Model, folder: Path, results: Iterable[Evaluated]) -> list[TopLoss]:
    """The most confident wrong labels, with their photos."""
    if model.info.multi_label:
        return _top_label_losses(model, folder, [*results])
    predictions = [(result.image, *prediction(model, result.row)) for result in results]
    wrong = [one for one in predictions if one[1] != one[0].label]
    source = LocalStorage(folder)
    return [
        TopLoss(image.path, image.label, predicted, confidence, photo, b"")
        for image, predicted, confidence in sorted(wrong, key=lambda one: -one[2])[:TOP_LOSSES]
        if (photo := read_thumbnail(source, image.path))
    ]
