"""The tasks that decide what production means: compare two models, promote one.

from tasks.promotion import compare
compare("pets@latest", "pets@production", "store/datasets/pets-5c1a3d0f", "store")
"""

from visionflows.orchestration import events
from visionflows.orchestration.steps import step
from visionflows.training.comparison import promotion_test as comparison

compare = step(
    comparison.verdict,
    name="compare",
    task_run_name="compare {candidate}",
    description="Label the same unseen images with the new model and with production.",
)

promote = step(
    events.promote,
    name="promote",
    task_run_name="promote {model}",
    description="Let production mean the model, and emit visionflows.model.promoted.",
)
