"""Every page of visionflows with long names and much content, for tests.

    CASES["scoring.html"](trained, tmp_path)              # its HTML

A page is a template of visionflows/reports/ that extends page.html.
tests/reports/test_page_cases.py fails if one has no case here.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSES, Trained, shape, write_shapes

from visionflows.errors import TooManyBadError
from visionflows.evaluation.label_metrics import compute_label_metrics
from visionflows.evaluation.metrics import compute_metrics
from visionflows.models.artifact import load_model
from visionflows.models.metrics_schema import Calibration, EvaluationResult, Metrics, TestMetrics
from visionflows.models.schema import LearningRates, ModelInfo, Selection
from visionflows.monitoring.drift import detect_drift
from visionflows.monitoring.run_records import Audit, read_run_records
from visionflows.reports.comparison import Comparison, render_comparison
from visionflows.reports.evaluation import render_evaluation
from visionflows.reports.history import render_history
from visionflows.reports.metrics import LEFT_OUT
from visionflows.reports.scoring import render_scoring_report
from visionflows.reports.thumbnails import encode_pixels
from visionflows.reports.training import TopLoss, render_training_report
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.run_report import explain_samples
from visionflows.scoring.schema import RunResult
from visionflows.storage import open_storage

AUDIT = Audit(accuracy=0.9, low=0.8, high=0.95, images=100)
LONG = "a-class-whose-name-is-longer-than-any-phone-is-wide-" * 3


def scoring(trained: Trained, folder: Path) -> str:
    """The report of a failed run over images in a folder with a long name."""
    output = failed(trained, folder)
    run = RunResult.read((output / "run.json").read_bytes())
    model = load_model(open_storage(trained.storage))
    info = model.info.model_copy(update={"image_size": 128})  # large enough for a feature map
    model = dataclasses.replace(model, info=info)
    source, storage = open_storage(folder / "in"), open_storage(output)
    return render_scoring_report(run, explain_samples(run, model, source, storage))


def review(trained: Trained, folder: Path) -> str:
    """The review page of that run."""
    return (failed(trained, folder) / "review.html").read_text()


def history(trained: Trained, folder: Path) -> str:
    """The run history of that output, with more runs and other label shares."""
    (run_record,) = read_run_records(open_storage(failed(trained, folder)))
    run_records, total = [], run_record.histograms.labelled
    for day in range(1, 13):
        labels = {LONG: day * total, CLASSES[0]: (30 - day) * total}
        tally = run_record.histograms.model_copy(
            update={"labels": labels, "confidence": {"9": 10 * total, "19": 20 * total}}
        )
        model = run_record.model.model_copy(update={"version": "v" * 90 + str(day // 7)})
        values = {
            "started": f"2026-11-{day:02}T02:00:00.000+00:00",
            "histograms": tally,
            "model": model,
        }
        one = run_record.model_copy(update=values | {"audit": AUDIT if day > 6 else None})
        run_records.append(one.model_copy(update={"drift": detect_drift(one, run_records)}))
    return render_history(f"s3://{LONG}", run_records)


def failed(trained: Trained, folder: Path) -> Path:
    """The output of a failed run."""
    write_shapes(folder / "in" / LONG, each=40, first_seed=300)
    for number in range(9):
        name = f"bad & {number}.jpg" if number else f"{LONG}.jpg"
        (folder / "in" / name).write_bytes(b"nothing" * number)
    with pytest.raises(TooManyBadError):
        score_folder(str(folder / "in"), "shapes", str(folder / "out"), trained.store)
    return folder / "out"


def described(trained: Trained) -> ModelInfo:
    """The ModelInfo of a model with every field of its training."""
    model = json.loads((Path(trained.storage) / "model.json").read_text())
    model |= {
        "pretrained": "none",
        "labels": "folder",
        "dataset": {
            **{"name": "shapes", "source": "a & b", "sha256": None, "fingerprint": "0" * 64},
            **{"images": 74, "train": 54, "valid": 18, "skipped": 2},
        },
        "split": {"seed": 42, "valid_pct": 0.25},
        "training": trained.record["settings"] | trained.record,
        "metrics": model["metrics"] | {"confusion": trained.metrics["confusion"]},
    }
    return ModelInfo.model_validate(model, strict=False)


def training(trained: Trained, folder: Path) -> str:
    """The training report of a model; one of its classes has a long name."""
    info = described(trained)
    by_class = [row.model_copy(update={"class_": LONG}) for row in info.metrics.by_class[:1]]
    metrics = {"by_class": [*by_class, *info.metrics.by_class[1:]]}
    values = {"classes": [LONG, *info.classes[1:]], "pretrained": f"/{LONG}", "notes": [LONG, "n"]}
    values["metrics"] = info.metrics.model_copy(update=metrics)
    bins = ({"count": 40, "confidence": 0.7, "accuracy": 0.6},) * 15
    sure = {"tested": 600, "ece_raw": 0.1, "ece": 0.01, "bins": bins, "bins_raw": bins}
    values["calibration"] = Calibration.model_validate(sure, strict=False)
    rates = {"error_rate": 0.1, "balanced_accuracy": 0.9, "macro_f1": 0.9, "log_loss": 0.3}
    candidates = [{"name": name, **rates} for name in ("linear probe", "epoch 1", "epoch 2")]
    found = {"metric": "macro_f1", "images": 400, "candidates": candidates, "why": LONG}
    selection = Selection.model_validate(found | {"published": "epoch 1"}, strict=False)
    rates = [10 ** (at / 10 - 7) for at in range(60)]
    curve = {"rates": rates, "losses": [1 + (at - 40) ** 2 / 1e3 for at in range(60)]}
    curve = LearningRates.model_validate(curve | {"suggested": 1e-4}, strict=False)
    trained_by = {"selection": selection, "lr_find": curve}
    values["training"] = info.training.model_copy(update=trained_by)
    counts = {"ok": 600, **dict.fromkeys(LEFT_OUT, 3)}
    tests = {"counts": counts, "metrics": values["metrics"], "ece": 0.1, "bins": bins}
    values["test"] = TestMetrics.model_validate(tests, strict=False)
    pictures = {path.stem: path.read_bytes() for path in Path(trained.storage).glob("pictures/*")}
    jpeg = encode_pixels(np.asarray(shape("circle", 1)))
    top_losses = [TopLoss(f"{LONG}/{LONG}.png", LONG, name, 0.99, jpeg, jpeg) for name in CLASSES]
    summary, left = trained.record["summary"], [(0.98, 0.1)]
    return render_training_report(
        info.model_copy(update=values), pictures, summary, top_losses, left
    )


def comparison(trained: Trained, folder: Path) -> str:
    """The comparison of two versions with many disagreements."""
    model = load_model(open_storage(trained.storage))
    info = model.info.model_copy(update={"version": "v" * 100, "classes": [LONG, *CLASSES]})
    a, b = dataclasses.replace(model, info=info), dataclasses.replace(model, info=model.info)
    folder = write_shapes(folder / "in", each=4)
    paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    predictions = [(LONG, LONG, CLASSES[0]), (CLASSES[1], LONG, CLASSES[2])]
    predictions += [(CLASSES[1], LONG, CLASSES[1]), (CLASSES[0], CLASSES[1], CLASSES[1])]
    table = pd.DataFrame(
        [(path, label, a, 0.99, b, 0.5) for path in paths for label, a, b in predictions],
        columns=["path", "label", "a", "a_probability", "b", "b_probability"],
    )
    rows = table.set_index("path")
    found = Comparison(a, b, open_storage(folder), rows, 4, 1, same_validation_images=False)
    return render_comparison(found)


def evaluation_result(metrics: dict) -> EvaluationResult:
    """An evaluation with these metrics, and images of every status that is left out."""
    return EvaluationResult.model_validate(
        {
            "schema_version": EvaluationResult.VERSION,
            **{"model": f"shapes@{LONG}", "digest": "0" * 64, "source": LONG, "labels": "folder"},
            **{"evaluated": "2026-01-01T00:00:00+00:00", "ece": 0.02},
            "counts": {"ok": 100, **dict.fromkeys(LEFT_OUT, 3)},
            "metrics": metrics,
            "bins": ({"count": 40, "confidence": 0.7, "accuracy": 0.6},) * 15,
        },
        strict=False,
    )


def evaluation(trained: Trained, folder: Path) -> str:
    """An evaluation with images of every status that is left out."""
    classes = [LONG, *CLASSES]
    predicted, targets = np.array([0, 1, 2, 3, 3] * 20), np.array([0, 1, 2, 3, 1] * 20)
    result = evaluation_result(compute_metrics(predicted, targets, classes))
    jpeg = encode_pixels(np.asarray(shape("circle", 1)))
    losses = [TopLoss(f"{LONG}/{LONG}.png", LONG, name, 0.99, jpeg, b"") for name in CLASSES]
    return render_evaluation(result, classes, losses, trained.storage, str(folder))


def label_metrics(classes: list[str]) -> dict:
    """The metrics of several labels; one class has no image."""
    rng = np.random.default_rng(0)
    targets = rng.random((200, len(classes))) < [0.5, 0.4, 0.3, 0][: len(classes)]
    scores = (targets * 0.4 + rng.random(targets.shape) * 0.6).round(3)
    return compute_label_metrics(scores >= 0.5, targets, scores, classes, np.arange(200))


def several_labels(trained: Trained, folder: Path) -> str:
    """The training report of a model that gives several labels."""
    info = described(trained)
    classes, jpeg = [LONG, *info.classes[1:]], encode_pixels(np.asarray(shape("circle", 1)))
    bins = ({"count": 40, "confidence": 0.7, "accuracy": 0.6},) * 15
    fitted = {"scale": [1.1] * 3, "bias": [0.1] * 3, "fitted": 200, "tested": 200}
    fitted |= {"ece_raw": 0.1, "ece": 0.01, "bins": bins, "bins_raw": bins}
    rates = dict.fromkeys(("mean_average_precision", "micro_f1", "macro_f1", "error_rate"), 0.7)
    candidates = [{"name": name, "log_loss": 0.1, **rates} for name in ("linear probe", "epoch 1")]
    found = {"metric": "mean_average_precision", "images": 40, "why": LONG, "published": "epoch 1"}
    epochs = [{"epoch": at, "phase": "unfrozen", **rates} for at in range(4)]
    values = {
        **{"classes": classes, "multi_label": True, "decision_thresholds": (0.2, 0.3, 0.5)},
        "metrics": Metrics.model_validate(label_metrics(classes), strict=False),
        "calibration": Calibration.model_validate(fitted, strict=False),
        "training": info.training.model_validate(
            info.training.model_dump()
            | {"selection": found | {"candidates": candidates}, "history": epochs},
            strict=False,
        ),
    }
    given, names = f"{CLASSES[1]};{CLASSES[2]}", [CLASSES[1], LONG]
    losses = [TopLoss(f"{LONG}.png", LONG, given, 0.99, jpeg, jpeg, name) for name in names]
    return render_training_report(info.model_copy(update=values), {}, "", losses, [(0.98, 0.1)])


def label_evaluation(trained: Trained, folder: Path) -> str:
    """An evaluation of several labels."""
    classes, jpeg = [LONG, *CLASSES], encode_pixels(np.asarray(shape("circle", 1)))
    result = evaluation_result(label_metrics(classes))
    losses = [TopLoss(f"{LONG}/{LONG}.png", LONG, "", 0.99, jpeg, b"", name) for name in classes]
    return render_evaluation(result, classes, losses, trained.storage, str(folder))


CASES: dict[str, Callable[[Trained, Path], str]] = {
    "comparison.html": comparison,
    "evaluation.html": evaluation,
    "history.html": history,
    "review.html": review,
    "scoring.html": scoring,
    "training.html": training,
    "several-labels-training.html": several_labels,
    "several-labels-evaluation.html": label_evaluation,
}
