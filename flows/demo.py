"""The demo flow: train on the embedded digits, then score held-out digits and a broken file."""

from pathlib import Path
from typing import Annotated, Any

from flows.score import score
from flows.train import train
from visionflows.orchestration.steps import flow
from visionflows.scoring.settings import ScoreSettings
from visionflows.training import check_installed
from visionflows.training.demo import DEMO_SETTINGS, clear_demo_folder, copy_validation_images


@flow(
    flow_run_name="demo",
    description="Train on the embedded digits, then score the digits held out of training.",
)
def demo(
    folder: Annotated[Path, "Folder for the store and the scores; replaced if it exists."],
) -> dict[str, Any]:
    """The `model` (its location), the `run` (run.json), and the `expected` labels by file name."""
    check_installed()
    clear_demo_folder(folder)
    store = str(folder / "store")
    model = train("digits", "digits", settings=DEMO_SETTINGS, store=store)
    inbox, expected = copy_validation_images(model, folder)
    settings = ScoreSettings(shard_size=100)
    scores = str(folder / "scores")
    run = score(str(inbox), "digits", output=scores, store=store, settings=settings)
    return {"model": model, "run": run, "expected": expected}
