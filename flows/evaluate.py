"""The evaluate flow: fetch -> load -> evaluate."""

from typing import Annotated, Any

from tasks import data, evaluation
from visionflows.datasets.label_rules import Missing, parse_label_rule
from visionflows.inference.engine import EngineSettings
from visionflows.models.registry import default_store, find_model
from visionflows.orchestration import parameters
from visionflows.orchestration.flow_runs import default_output
from visionflows.orchestration.steps import flow
from visionflows.storage import open_storage

DEFAULTS = EngineSettings()


@flow(
    flow_run_name="evaluate {model} on {dataset}",
    description="Evaluate a model on labelled images that it was not trained on.",
    reports_failure=True,
)
def evaluate(
    model: Annotated[str, parameters.MODEL],
    dataset: Annotated[str, parameters.DATASET],
    labels: Annotated[str, parameters.LABELS] = "folder",
    output: Annotated[str, parameters.OUTPUT] = "",
    store: Annotated[str, parameters.STORE] = "",
    sha256: Annotated[str, parameters.SHA256] = "",
    label_sep: Annotated[str, parameters.LABEL_SEP] = "",
    missing: Annotated[Missing, parameters.MISSING] = "error",
    settings: Annotated[EngineSettings, "Advanced: speed, precision and decoding."] = DEFAULTS,
) -> dict[str, Any]:
    """The content of evaluation.json.

    Raises a VisionflowsError; settings are checked before any work.
    """
    store = store or default_store()
    rule = parse_label_rule(labels, label_sep, missing=missing)
    find_model(model, store)
    output = output or default_output(store, "evaluations")
    open_storage(output).check_writable()
    found = data.fetch(dataset, store, sha256=sha256 or None)
    engine = evaluation.load(model, store, settings)
    result = evaluation.evaluate(engine, found, rule, output, store)
    return {**result.as_dict(), "output": output}
