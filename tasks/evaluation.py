"""The tasks that evaluate a model on labelled images."""

from visionflows.inference import open_engine
from visionflows.orchestration import forked_processes  # noqa: F401 (decoders fork here)
from visionflows.orchestration.steps import Step
from visionflows.scoring.evaluate import write_evaluation

load = Step(open_engine, name="load", task_run_name="load {model}")
evaluate = Step(write_evaluation, name="evaluate")
