"""The whole job on the embedded digits: train, hold some back, score them with a broken file.

visionflows demo
"""

from pathlib import Path
from typing import Any

from flows.score import score
from flows.train import train
from visionflows.orchestration.steps import flow
from visionflows.scoring.settings import ScoreSettings
from visionflows.training import check_installed
from visionflows.training.demo import DEMO_SETTINGS, clear_demo_folder, copy_validation_images


@flow(
    name="demo",
    flow_run_name="demo",
    description="Train on the embedded digits, then score those held out of training.",
)
def demo(folder: Path) -> dict[str, Any]:
    """What came of it: `model` (a place), `run` (run.json), `expected` (labels by file name).

    The same flows as on any dataset; the results lie in `folder`, which is made anew.
    """
    check_installed()
    clear_demo_folder(folder)
    store = str(folder / "store")
    model = train("digits", "digits", settings=DEMO_SETTINGS, store=store)
    inbox, expected = copy_validation_images(model, folder)
    run = score(
        str(inbox),
        "digits",
        output=str(folder / "scores"),
        store=store,
        settings=ScoreSettings(shard_size=100),
    )
    return {"model": model, "run": run, "expected": expected}
