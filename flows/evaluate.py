"""The evaluate flow: fetch -> load -> evaluate."""

from typing import Any

from tasks import data, evaluation
from visionflows.datasets.label_rules import parse_label_rule
from visionflows.inference.engine import EngineSettings
from visionflows.models.registry import default_store, find_model
from visionflows.orchestration.flow_runs import default_output
from visionflows.orchestration.notifications import report_failure
from visionflows.orchestration.steps import flow
from visionflows.storage import open_storage

DEFAULTS = EngineSettings()


@flow(
    flow_run_name="evaluate {model} on {dataset}",
    description="Evaluate a model on labelled images that it was not trained on.",
    on_failure=[report_failure],
    on_crashed=[report_failure],
)
def evaluate(
    model: str,
    dataset: str,
    labels: str = "folder",
    output: str = "",
    store: str = "",
    sha256: str = "",
    settings: EngineSettings = DEFAULTS,
) -> dict[str, Any]:
    """The content of evaluation.json.

    Raises a VisionflowsError; settings are checked before any work. The run form shows the
    descriptions below.

    Args:
        model: pets, pets@production, pets@VERSION, or the path or URI of a model artifact.
        dataset: Labelled images: a fastai name (PETS), an archive or folder (path, http(s):// or
            s3:// URI), or digits.
        labels: folder, uppercase, regex:PATTERN with one capture group, or
            csv:PATH_OR_URI#PATH,LABEL (the columns, if they are not path and label).
            uppercase:dog,cat names its classes.
        output: Folder or s3:// URI of the results; empty for a new folder in the store.
        store: Folder or s3:// URI of models, datasets and scores; empty for the worker's default.
        sha256: Expected SHA-256 of the archive; empty to accept any.
        settings: Advanced: speed, precision and decoding.
    """
    store = store or default_store()
    parse_label_rule(labels)
    find_model(model, store)
    output = output or default_output(store, "evaluations")
    open_storage(output).check_writable()
    found = data.fetch(dataset, store, sha256=sha256 or None)
    engine = evaluation.load(model, store, settings)
    result = evaluation.evaluate(engine, found, labels, output, store)
    return {**result.as_dict(), "output": output}
