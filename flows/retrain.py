"""The retrain flow: train, compare with production, promote if better, score what waits.

visionflows retrain PETS --name pets --labels uppercase
prefect deployment run retrain/retrain

The two models label the same images, which neither was trained on: see
visionflows/training/comparison/promotion_test.py for why their published error rates will not do, and for the test
that decides. The first model of its name is promoted as it is. Why one was promoted is kept in the
history (visionflows/models/promotion_history.py); why one was not, in the run's result.
"""

from typing import Annotated, Any

from pydantic import Field

from flows.score import score
from flows.train import train
from tasks import promotion
from visionflows.models.registry import default_store
from visionflows.orchestration import artifacts
from visionflows.orchestration.flow_runs import run_name
from visionflows.orchestration.notifications import report_failure
from visionflows.orchestration.steps import flow
from visionflows.training.comparison.disagreements import dataset_folder
from visionflows.training.settings import TrainSettings

DEFAULTS = TrainSettings()


@flow(
    name="retrain",
    flow_run_name=run_name("retrain {name} from {dataset}"),
    description="Train, compare with production, promote if better, score what waits.",
    on_failure=[report_failure],
    on_crashed=[report_failure],
)
def retrain(
    dataset: str,
    name: str,
    labels: str = "folder",
    valid_pct: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    inbox: str = "",
    output: str = "",
    store: str = "",
    int8: bool = False,
    corrections: tuple[str, ...] = (),
    corrections_in_validation: bool = False,
    settings: TrainSettings = DEFAULTS,
) -> dict[str, Any]:
    """What came of it: the new version, whether it was promoted and why, and the comparison.

    Raises a VisionflowsError, in one line; production is then what it was. The lines below are
    what the run form says.

    Args:
        dataset: The dataset as it is now: a fastai name (PETS), an archive, a folder, or digits.
        name: What the model is called; its production is what the new version must beat.
        labels: folder, uppercase, regex:PATTERN with one group, or csv:PLACE#PATH,LABEL
            (its columns, if they are not path and label).
        valid_pct: Share of the images to validate on.
        inbox: A folder to score afterwards with what is production then. Leave it empty where
            the promotion's event starts a scoring, as it does beside the score deployment.
        output: Where that scoring's predictions.csv goes; empty for a folder of its own.
        store: Where runs keep what they make; empty for the worker's own.
        int8: Also make each version's network in int8, as `train` does.
        corrections: Files of corrections that review.html saved, or outputs of scoring runs that
            they were added to, such as that of the nightly scoring.
        corrections_in_validation: Judge by corrected images too; else all are trained on.
        settings: Advanced: the network, how long and how fast it learns, augmentation, seed.
    """
    store = store or default_store()
    published = train(
        dataset=dataset,
        name=name,
        labels=labels,
        settings=settings,
        valid_pct=valid_pct,
        store=store,
        int8=int8,
        corrections=corrections,
        corrections_in_validation=corrections_in_validation,
    )
    candidate = f"{name}@{published.rstrip('/').rpartition('/')[2]}"
    # Not fetched again: the dataset at a URL may be another one by now.
    folder = dataset_folder(candidate, store)
    verdict = promotion.compare(candidate, f"{name}@production", folder, store)
    if verdict["better"]:
        promotion.promote(candidate, store, why=f"retrain: {verdict['why']}")
    artifacts.create_retrain_summary(candidate, verdict)
    if inbox:
        score(input=inbox, model=f"{name}@production", output=output, store=store)
    return {"model": candidate, "promoted": verdict["better"], **verdict}
