"""The tasks that decide which version is in production: compare two models, promote one."""

from visionflows.orchestration import events
from visionflows.orchestration.steps import step
from visionflows.training.comparison.promotion_test import decide_promotion

compare = step(
    decide_promotion,
    name="compare",
    task_run_name="compare {candidate}",
    description="Score the same unseen images with the new model and with production.",
)
promote = step(
    events.promote,
    task_run_name="promote {model}",
    description="Point `production` to the model and emit visionflows.model.promoted.",
)
