"""The retrain flow: train, compare with production, promote if better, score what waits.

visionflows retrain PETS --name pets --labels uppercase
prefect deployment run retrain/retrain

The two models label the same images, which neither was trained on: see tasks/compare.py for why
their published error rates will not do. The first model of its name is promoted as it is.
"""

from typing import Annotated

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from pydantic import Field

from flows import artifacts, steps
from flows import promote as promotion
from flows.logs import to_prefect
from flows.notify import tell
from flows.score import score
from flows.train import train
from tasks import bundle
from tasks import compare as comparison
from tasks.learner import TrainSettings
from tasks.storage import place

compare_models = task(
    comparison.compare,
    name="compare",
    description="Label the same unseen images with the new model and with production.",
    cache_policy=NO_CACHE,
)
promote_model = task(
    promotion.promote,
    name="promote",
    task_run_name="promote {model}",
    description="Let production mean the model, and emit visionflows.model.promoted.",
    cache_policy=NO_CACHE,
)

DEFAULTS = TrainSettings()


def _name() -> str:
    return "retrain {name} from {dataset}".format(**flow_run.parameters)


@flow(
    name="retrain",
    flow_run_name=_name,
    description="Train, compare with production, promote if better, score what waits.",
    validate_parameters=True,
    on_failure=[tell],
    on_crashed=[tell],
)
def retrain(
    dataset: str,
    name: str,
    labels: str = "folder",
    valid_pct: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    inbox: str = "",
    output: str = "",
    store: str = "",
    settings: TrainSettings = DEFAULTS,
) -> dict:
    """What came of it: the new version, whether it was promoted and why, and the comparison.

    Raises a VisionflowsError, in one line; production is then what it was. The lines below are
    what the run form says.

    Args:
        dataset: The dataset as it is now: a fastai name (PETS), an archive, a folder, or digits.
        name: What the model is called; its production is what the new version must beat.
        labels: folder, uppercase, regex:PATTERN with one group, or csv:PLACE.
        valid_pct: Share of the images to validate on.
        inbox: A folder to score afterwards with what is production then. Leave it empty where
            the promotion's event starts a scoring, as it does beside the score deployment.
        output: Where that scoring's predictions.csv goes; empty for a folder of its own.
        store: Where runs keep what they make; empty for the worker's own.
        settings: Advanced: the network, how long and how fast it learns, augmentation, seed.
    """
    to_prefect()
    store = store or bundle.default_store()
    published = train(
        dataset=dataset,
        name=name,
        labels=labels,
        settings=settings,
        valid_pct=valid_pct,
        store=store,
    )
    version = published.rstrip("/").rpartition("/")[2]
    verdict = _verdict(f"{name}@{version}", name, dataset, store)
    if verdict["better"]:
        promote_model(f"{name}@{version}", store)
    artifacts.retrained(f"{name}@{version}", verdict)
    if inbox:
        score(input=inbox, model=f"{name}@production", output=output, store=store)
    return {"model": f"{name}@{version}", "promoted": verdict["better"], **verdict}


def _verdict(candidate: str, name: str, dataset: str, store: str) -> dict:
    """The comparison with production; better by itself where there is none yet."""
    production = f"{name}@production"
    if not place(store).exists(f"models/{name}/aliases/production"):
        return {"better": True, "why": f"there is no {production} yet"}
    data = steps.fetch_dataset(dataset, store)  # there already: train has just fetched it
    return compare_models(candidate, production, data.folder, store)
