"""The tasks that turn a file table into a published model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionflows.models.schema import ModelInfo
from visionflows.orchestration import artifacts, forked_processes  # noqa: F401 (loaders fork here)
from visionflows.orchestration.progress import Progress
from visionflows.orchestration.steps import step
from visionflows.training.checkpoint import resume_or_fine_tune
from visionflows.training.evidence import (
    decode_agreement,
    int8_quantization,
    label_agreement,
    label_issues,
    onnx_export,
    outlier_detector,
)
from visionflows.training.evidence.evaluate import evaluate_checkpoint
from visionflows.training.publish import publish_model
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd


@step(
    task_run_name="fine_tune {settings.architecture}",
    description="fastai's fine_tune: freeze, one cycle, unfreeze, one cycle. Uses a GPU if any.",
)
def fine_tune(
    files: "pd.DataFrame", folder: Path, checkpoint: Path, settings: TrainSettings
) -> dict[str, Any]:
    """Return the training record; the UI gets the epochs as a table."""
    with Progress("fine-tuning", total=1) as progress:
        record = resume_or_fine_tune(files, folder, checkpoint, settings, progress.update)
    artifacts.create_epoch_table(record["history"])
    return record


evaluate = step(
    evaluate_checkpoint,
    name="evaluate",
    description="Compute metrics and draw plots on the validation images.",
)
find_label_issues = step(
    label_issues.find_label_issues,
    description="List images whose label is probably wrong (confident learning).",
)
export_onnx = step(
    onnx_export.export_onnx,
    description="Write model.onnx and check it: scoring with it needs no torch.",
)
measure_label_agreement = step(
    label_agreement.measure_label_agreement,
    description="Score in float32 and bfloat16, and count the labels that agree.",
)
quantize_int8 = step(
    int8_quantization.quantize_int8,
    description="Quantize the network to int8, and count the labels that agree with float32.",
)
measure_decode_agreement = step(
    decode_agreement.measure_decode_agreement,
    description="Score large validation images decoded full and scaled, and compare.",
)
fit_outlier_detector = step(
    outlier_detector.fit_outlier_detector,
    description="Fit the outlier detector and measure its false alarms on validation images.",
)


@step(
    task_run_name="publish {info.name}",
    description="Write the model artifact into the store and point `latest` to it.",
)
def publish(
    checkpoint: Path, store: str, info: ModelInfo, files: "pd.DataFrame", summary: str
) -> str:
    """Return the location of the model artifact; the UI gets a summary."""
    location = publish_model(checkpoint, store, info, files, summary)
    artifacts.create_training_summary(info, location)
    return location
