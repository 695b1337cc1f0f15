"""The tasks that make a model of a file table: fine-tune, judge, gather evidence, publish.

from tasks.training import fine_tune
record = fine_tune(files, folder, draft, TrainSettings(epochs=3))
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionflows.models.schema import ModelInfo
from visionflows.orchestration import artifacts, forked_processes  # noqa: F401 (loaders are forked here)
from visionflows.orchestration.progress import Progress
from visionflows.orchestration.steps import step
from visionflows.training import checkpoint as checkpoints
from visionflows.training import publish as publishing
from visionflows.training.evidence import decode_agreement as scaling
from visionflows.training.evidence import evaluate as judging
from visionflows.training.evidence import fit_outliers as telling
from visionflows.training.evidence import int8 as quantising
from visionflows.training.evidence import label_agreement as evidence
from visionflows.training.evidence import label_issues as suspecting
from visionflows.training.evidence import onnx_export as exporting
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd


@step(
    name="fine_tune",
    task_run_name="fine_tune {settings.architecture}",
    description="fastai's fine_tune: freeze, one cycle, unfreeze, one cycle; on the GPU if any.",
)
def fine_tune(
    files: "pd.DataFrame", folder: Path, checkpoint: Path, settings: TrainSettings
) -> dict[str, Any]:
    """Train, or go on from a training of before; leave the history as a table in the UI."""
    with Progress("fine-tuning", total=1) as progress:
        record = checkpoints.fine_tuned(files, folder, checkpoint, settings, progress.update)
    artifacts.create_epoch_table(record["history"])
    return record


evaluate = step(
    judging.evaluate,
    name="evaluate",
    task_run_name="evaluate",
    description="Metrics and pictures of the network on the validation side.",
)

label_issues = step(
    suspecting.of_checkpoint,
    name="label_issues",
    task_run_name="label_issues",
    description="Name the images whose label is probably wrong, by confident learning.",
)

export = step(
    exporting.of_checkpoint,
    name="export",
    task_run_name="export",
    description="Write the network as model.onnx, and check it: what scores it needs no torch.",
)

agreement = step(
    evidence.of_checkpoint,
    name="agreement",
    task_run_name="agreement",
    description="Score the validation side in float32 and faster; auto needs them to agree.",
)

int8 = step(
    quantising.of_checkpoint,
    name="int8",
    task_run_name="int8",
    description="Make the network in int8, and score the validation side with it and in float32.",
)

decoding = step(
    scaling.of_checkpoint,
    name="decoding",
    task_run_name="decoding",
    description="Score large validation images decoded whole and scaled; how far they agree.",
)

outliers = step(
    telling.of_checkpoint,
    name="outliers",
    task_run_name="outliers",
    description="Learn to tell pictures of another kind, and count how many of ours are taken so.",
)


@step(
    name="publish",
    task_run_name="publish {info.name}",
    description="Write the model bundle into the store; `latest` means it from now on.",
)
def publish(
    checkpoint: Path, store: str, info: ModelInfo, files: "pd.DataFrame", summary: str
) -> str:
    """The place of the bundle, of which the UI gets a summary."""
    where = publishing.publish_training(checkpoint, store, info, files, summary)
    artifacts.create_training_summary(info, where)
    return where
