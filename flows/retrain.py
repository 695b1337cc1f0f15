"""The retrain flow: train, compare with production, promote if better, score an inbox.

Both models label the same images, which neither was trained on. The first model of a name is
promoted without a comparison.
"""

from typing import Annotated, Any

from pydantic import Field

from flows.score import score
from flows.train import train
from tasks import promotion
from visionflows.datasets.label_rules import Missing, parse_label_rule
from visionflows.models.registry import default_store, production_info
from visionflows.orchestration import artifacts, parameters
from visionflows.orchestration.steps import flow
from visionflows.review.corrections import existing_locations
from visionflows.training.comparison import dataset_folder
from visionflows.training.settings import TrainSettings

DEFAULTS = TrainSettings()
NAME = "Name of the model; the new version is compared with its production version."
INBOX = (
    "Images to score afterwards with the production version. Leave it empty if a rule starts a "
    "scoring run after a promotion, as in deployments/prefect.yaml."
)
OUTPUT = "Folder or s3:// URI of those scores; empty for a new folder in the store."


@flow(
    flow_run_name="retrain {name} from {dataset}",
    description="Train, compare with production, promote if better, score an inbox.",
    reports_failure=True,
)
def retrain(
    dataset: Annotated[str, parameters.DATASET],
    name: Annotated[str, NAME],
    labels: Annotated[str, parameters.LABELS] = "folder",
    group: Annotated[str, parameters.GROUP] = "",
    valid_pct: Annotated[float, Field(gt=0, lt=1), parameters.VALID_PCT] = 0.2,
    inbox: Annotated[str, INBOX] = "",
    output: Annotated[str, OUTPUT] = "",
    store: Annotated[str, parameters.STORE] = "",
    int8: Annotated[bool, parameters.INT8] = False,
    corrections: Annotated[tuple[str, ...], parameters.CORRECTIONS] = (),
    corrections_in_validation: Annotated[bool, parameters.CORRECTIONS_IN_VALIDATION] = False,
    label_sep: Annotated[str, parameters.LABEL_SEP] = "",
    multi_label: Annotated[bool | None, parameters.MULTI_LABEL] = None,
    missing: Annotated[Missing, parameters.MISSING] = "error",
    settings: Annotated[TrainSettings, parameters.TRAINING] = DEFAULTS,
) -> dict[str, Any]:
    """The new version, whether it was promoted, the reason, and the comparison.

    With the same `labels` as those of production, their options are repeated.
    Raises a VisionflowsError; production then stays as it was.
    """
    store = store or default_store()
    corrections = tuple(existing_locations(corrections))
    rule = parse_label_rule(labels, label_sep, multi_label, missing)
    before = production_info(name, store)
    if before and before.labels == labels:
        rule = rule.repeat(before.label_sep, before.multi_label, before.missing)
    published = train(
        *(dataset, name, labels, group, valid_pct, store),
        int8=int8,
        corrections=corrections,
        corrections_in_validation=corrections_in_validation and bool(corrections),
        label_sep=rule.separator,
        multi_label=rule.multi_label,
        missing=rule.missing,
        settings=settings,
    )
    candidate = f"{name}@{published.rstrip('/').rpartition('/')[2]}"
    # The dataset is not fetched again: at a URL it may have changed.
    folder = dataset_folder(candidate, store)
    verdict = promotion.compare(candidate, f"{name}@production", folder, store)
    if verdict["better"]:
        promotion.promote(candidate, store, why=f"retrain: {verdict['why']}")
    artifacts.create_retrain_summary(candidate, verdict)
    if inbox:
        score(input=inbox, model=f"{name}@production", output=output, store=store)
    return {"model": candidate, "promoted": verdict["better"], **verdict}
