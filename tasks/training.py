"""The tasks that turn a file table into a published model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionflows.models.schema import ModelInfo
from visionflows.orchestration import artifacts, forked_processes  # noqa: F401 (loaders fork here)
from visionflows.orchestration.progress import Progress
from visionflows.orchestration.steps import Step, step
from visionflows.training.checkpoint import resume_or_fine_tune
from visionflows.training.evidence import (
    decode_agreement,
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

if TYPE_CHECKING:
    import pandas as pd


@step(task_run_name="fine_tune {settings.architecture}")
def fine_tune(
    files: "pd.DataFrame",
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


evaluate = Step(evaluate_checkpoint, name="evaluate")
find_label_issues = Step(label_issues.find_label_issues)
export_onnx = Step(onnx_export.export_onnx)
measure_label_agreement = Step(label_agreement.measure_label_agreement)
quantize_int8 = Step(int8_quantization.quantize_int8)
measure_decode_agreement = Step(decode_agreement.measure_decode_agreement)
fit_outlier_detector = Step(outlier_detector.fit_outlier_detector)
evaluate_test = Step(test_images.evaluate_test)


@step(task_run_name="publish {info.name}")
def publish(
    checkpoint: Path, store: str, info: ModelInfo, files: "pd.DataFrame", summary: str
) -> str:
    """Publish the model as `latest` and return its location; the UI gets a summary."""
    location = publish_model(checkpoint, store, info, files, summary)
    artifacts.create_training_summary(info, location)
    return location
