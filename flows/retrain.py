"""The retrain flow: train, compare with production, promote if better, score an inbox.

Both models label the same images, which neither was trained on. The first model of a name is
promoted without a comparison.
"""

from typing import Annotated, Any

from pydantic import Field

from flows.score import score
from flows.train import train
from tasks import promotion
from visionflows.models.registry import default_store
from visionflows.orchestration import artifacts
from visionflows.orchestration.notifications import report_failure
from visionflows.orchestration.steps import flow
from visionflows.review.corrections import existing_locations
from visionflows.training.comparison import dataset_folder
from visionflows.training.settings import TrainSettings

DEFAULTS = TrainSettings()


@flow(
    flow_run_name="retrain {name} from {dataset}",
    description="Train, compare with production, promote if better, score an inbox.",
    on_failure=[report_failure],
    on_crashed=[report_failure],
)
def retrain(
    dataset: str,
    name: str,
    labels: str = "folder",
    group: str = "",
    valid_pct: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    inbox: str = "",
    output: str = "",
    store: str = "",
    int8: bool = False,
    corrections: tuple[str, ...] = (),
    corrections_in_validation: bool = False,
    settings: TrainSettings = DEFAULTS,
) -> dict[str, Any]:
    """The new version, whether it was promoted, the reason, and the comparison.

    Raises a VisionflowsError; production then stays as it was. The run form shows the descriptions
    below.

    Args:
        dataset: The current dataset: a fastai name (PETS), an archive, a folder, or digits.
        name: Name of the model; the new version is compared with its production version.
        labels: folder, uppercase, regex:PATTERN with one group, or csv:PATH_OR_URI#PATH,LABEL
            (the columns, if they are not path and label). uppercase:dog,cat names its classes.
        group: Images to keep on one side of the split, such as those of a camera: folder,
            regex:PATTERN (its one group, on the path), or column:NAME of the label CSV.
        valid_pct: Share of the images to validate on.
        inbox: Images to score afterwards with the production version. Leave it empty if the
            promotion's event starts a scoring, as the score deployment does.
        output: Folder or s3:// URI of those scores; empty for a new folder in the store.
        store: Folder or s3:// URI of models, datasets and scores; empty for the worker's default.
        int8: Also export an int8 network, as `train` does.
        corrections: Files that review.html saved, or outputs that corrections were added to, such
            as that of the nightly scoring.
        corrections_in_validation: Also validate on corrected images; by default all are trained on.
        settings: Advanced: architecture, epochs, learning rate, augmentation, seed.
    """
    store = store or default_store()
    corrections = tuple(existing_locations(corrections))
    published = train(
        *(dataset, name, labels, group, valid_pct, store),
        int8=int8,
        corrections=corrections,
        corrections_in_validation=corrections_in_validation and bool(corrections),
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
