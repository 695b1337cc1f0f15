"""The retrain flow: train, compare with production, promote if better, score what waits.

python -c 'from flows.retrain import retrain; retrain("PETS", "pets", labels="uppercase")'
prefect deployment run retrain/retrain

The two models label the same images, which neither was trained on: see tasks/compare.py for why
their published error rates will not do. The first model of its name is promoted as it is.
"""

from typing import Annotated

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from pydantic import Field

from flows import promote as promotion
from flows import steps
from flows.logs import to_prefect
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


def _name() -> str:
    return "retrain {name} from {dataset}".format(**flow_run.parameters)


@flow(
    name="retrain",
    flow_run_name=_name,
    description="Train, compare with production, promote if better, score what waits.",
    validate_parameters=True,
)
def retrain(
    dataset: Annotated[
        str, Field(description="A fastai name (PETS), an http(s):// archive, an archive, a folder.")
    ],
    name: Annotated[str, Field(description="What the model is called.")],
    labels: Annotated[
        str, Field(description="folder, uppercase, regex:PATTERN with one group, or csv:PLACE.")
    ] = "folder",
    inbox: Annotated[
        str | None,
        Field(
            description="A folder to score afterwards, with what is production then. Leave it "
            "empty where the promotion's event starts a scoring, as the deployments do."
        ),
    ] = None,
    settings: Annotated[
        TrainSettings | None, Field(title="Advanced", description="How to fine-tune.")
    ] = None,
    valid_pct: Annotated[
        float, Field(gt=0, lt=1, description="Share of the images to validate on.")
    ] = 0.2,
    store: Annotated[
        str | None, Field(description="Where runs keep what they make; the worker's if empty.")
    ] = None,
) -> dict:
    """What came of it: the new version, whether it was promoted and why, and the comparison.

    Raises a VisionflowsError, in one line; production is then what it was.
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
    create_markdown_artifact(_note(name, version, verdict), description="Whether it was promoted")
    if inbox:
        score(input=inbox, model=f"{name}@production", store=store)
    return {"model": f"{name}@{version}", "promoted": verdict["better"], **verdict}


def _verdict(candidate: str, name: str, dataset: str, store: str) -> dict:
    """The comparison with production; better by itself where there is none yet."""
    production = f"{name}@production"
    if not place(store).exists(f"models/{name}/aliases/production"):
        return {"better": True, "why": f"there is no {production} yet"}
    data = steps.fetch_dataset(dataset, store)  # there already: train has just fetched it
    return compare_models(candidate, production, data.folder, store)


def _note(name: str, version: str, verdict: dict) -> str:
    outcome = "promoted" if verdict["better"] else "not promoted"
    return f"## {name}@{version}: {outcome}\n\n{verdict['why'].capitalize()}.\n"
