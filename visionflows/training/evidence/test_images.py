"""Evaluate the network of a checkpoint on the test images of its dataset, as it will be published.

Nothing is trained, validated or chosen on test images. Those that the network was trained on,
near-duplicates of these, and images of groups that it was trained or validated on are left out.
"""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from visionflows.datasets.table_notes import TEST, UNKNOWN_CLASS, UNLABELLED
from visionflows.inference import EngineSettings, make_engine
from visionflows.inference.evaluate import Evaluated, Labelled, evaluate, measure
from visionflows.label_sets import are_known
from visionflows.models.artifact import Model

log = logging.getLogger("visionflows.evaluate")


def has_test_images(files: pd.DataFrame) -> bool:
    """Return whether a file table has test images with a label."""
    return bool((files.is_test & (files.status != UNLABELLED)).any())


def evaluate_test(model: Model, files: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """Return `test` of model.json: counts of the test images by status, and those of `measure`.

    If no test image can be evaluated, only counts and why.
    """
    tests = files[files.is_test]
    labelled = tests.status.isin([TEST, UNKNOWN_CLASS])
    known = labelled & are_known(tests.label, model.classes, model.info.multi_label)
    counts = Counter(tests.status.mask(labelled, UNKNOWN_CLASS)[~known])
    trained_groups = set(files.group[files.status == "ok"]) - {""}
    is_new = ~tests.group.isin(trained_groups)
    if same_group := int((known & ~is_new).sum()):
        counts["same_group"] = same_group
    known &= is_new
    results = _evaluate(model, files, tests[known], folder) if known.any() else []
    counts.update(result.status for result in results)
    if not counts["ok"]:
        why = "no test image can be evaluated"
        log.warning("%s: %s", why, ", ".join(f"{count} {name}" for name, count in counts.items()))
        return {"counts": dict(counts), "why": why}
    measured = measure(model, [result for result in results if result.status == "ok"])
    metrics = measured["metrics"]
    log.info(
        "test: error rate %.4f, accuracy %.4f (95 %% interval %.4f to %.4f) on %d images",
        *(metrics["error_rate"], metrics["accuracy"], *metrics["interval"], counts["ok"]),
    )
    return {"counts": dict(counts), **measured}


def _evaluate(
    model: Model, files: pd.DataFrame, tests: pd.DataFrame, folder: Path
) -> list[Evaluated]:
    trained = files[(files.status == "ok") & ~files.is_valid.astype(bool)]
    images = [Labelled(str(row.path), str(row.label), "") for row in tests.itertuples()]
    trained_on = [*zip(trained.sha256, trained.signature, strict=True)]
    return evaluate(make_engine(model, EngineSettings()), folder, images, trained_on)
