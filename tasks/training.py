"""The tasks that turn a file table into a published model."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import pandas as pd

from visionflows.models.artifact import Model
from visionflows.models.schema import ModelInfo
from visionflows.orchestration import artifacts, forked_processes  # noqa: F401 (loaders fork here)
from visionflows.orchestration.progress import Progress
from visionflows.orchestration.steps import Step, step
from visionflows.training.checkpoint import resume_or_fine_tune
from visionflows.training.evidence import (
    int8_quantization,
    label_agreement,
    label_issues,
    onnx_export,
    outlier_detector,
    test_images,
)
from visionflows.training.evidence.evaluate import evaluate_checkpoint
from visionflows.training.publish import publish_model
from visionflows.training.settings import TrainSettings

_P = ParamSpec("_P")


@step(task_run_name="fine_tune {settings.architecture}")
def fine_tune(
    files: pd.DataFrame,
    folder: Path,
    checkpoint: Path,
    settings: TrainSettings,
    store: str,
) -> dict[str, Any]:
    """fastai's fine_tune; returns the training record, and the UI gets its epochs as a table."""
    with Progress("fine-tuning", total=1) as progress:
        record = resume_or_fine_tune(files, folder, checkpoint, settings, progress.update, store)
    artifacts.create_epoch_table(record["history"])
    return record


def _evidence(
    measure: Callable[Concatenate[Model, _P], dict[str, Any]], part: str
) -> Step[Concatenate[Model, _P], Model]:
    """A step that returns the model with what it measures, as a part of model.json."""

    @functools.wraps(measure)
    def add(model: Model, *args: _P.args, **kwargs: _P.kwargs) -> Model:
        found = measure(model, *args, **kwargs)
        if part in ("agreement", "int8"):
            return dataclasses.replace(model, info=model.info.with_agreement(found, part))
        return dataclasses.replace(model, info=model.info.updated(**{part: found}))

    return Step(add)


evaluate = Step(evaluate_checkpoint, name="evaluate")
find_label_issues = _evidence(label_issues.find_label_issues, "label_issues")
export_onnx = _evidence(onnx_export.export_onnx, "onnx")
measure_label_agreement = _evidence(label_agreement.measure_label_agreement, "agreement")
quantize_int8 = _evidence(int8_quantization.quantize_int8, "int8")
measure_decode_agreement = _evidence(label_agreement.measure_decode_agreement, "decode_agreement")
fit_outlier_detector = _evidence(outlier_detector.fit_outlier_detector, "outliers")
evaluate_test = _evidence(test_images.evaluate_test, "test")


@step(task_run_name="publish {info.name}")
def publish(
    checkpoint: Path, store: str, info: ModelInfo, files: pd.DataFrame, summary: str
) -> str:
    """Publish the model as `latest` and return its location; the UI gets a summary."""
    location = publish_model(checkpoint, store, info, files, summary)
    artifacts.create_training_summary(info, location)
    return location
