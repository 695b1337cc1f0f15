"""The tasks of a training set: fetch a dataset, label and split its images."""

from visionflows.datasets import file_table
from visionflows.datasets.fetch import fetch as fetch_dataset
from visionflows.orchestration.steps import Step
from visionflows.training.apply_corrections import apply_corrections

fetch = Step(fetch_dataset, task_run_name="fetch {dataset}")
build_table = Step(file_table.build_table, name="table")
correct = Step(apply_corrections, name="correct")
