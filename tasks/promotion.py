"""The tasks that decide which version is in production: compare two models, promote one."""

from visionflows.orchestration import events
from visionflows.orchestration.steps import Step
from visionflows.training.comparison import decide_promotion

compare = Step(decide_promotion, name="compare", task_run_name="compare {candidate}")
promote = Step(events.promote, task_run_name="promote {model}")
