"""The tasks of a training set: fetch a dataset, label and split its images."""

from visionflows.datasets import file_table
from visionflows.datasets.fetch import fetch as fetch_dataset
from visionflows.orchestration.steps import step
from visionflows.training.apply_corrections import apply_corrections

fetch = step(
    fetch_dataset,
    task_run_name="fetch {dataset}",
    description="Download a dataset, verify it, and unpack it into the store once.",
)
build_table = step(
    file_table.build_table,
    name="table",
    description="Open, check, label and split all images into a file table.",
)
correct = step(
    apply_corrections,
    name="correct",
    description="Apply corrected labels, and import the corrected images.",
)
