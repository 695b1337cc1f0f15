"""tasks/ holds only tasks, flows/ only flows, and each file the tasks of its topic."""

import importlib
import types
from pathlib import Path

import pytest

from visionflows.orchestration.steps import Flow, Step

ROOT = Path(__file__).parents[2]


def defined_in(module: types.ModuleType) -> dict[str, object]:
    """Return the public names that a module defines itself."""
    own = vars(module).items()
    return {
        name: value
        for name, value in own
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and (
            isinstance(value, Step | Flow) or getattr(value, "__module__", None) == module.__name__
        )
    }


@pytest.mark.parametrize("folder, kind", [("tasks", Step), ("flows", Flow)])
def test_a_folder_holds_only_its_kind(folder, kind):
    for path in sorted((ROOT / folder).glob("[a-z]*.py")):
        module = importlib.import_module(f"{folder}.{path.stem}")
        found = defined_in(module)
        assert found, path
        for name, value in found.items():
            assert type(value) is kind, f"{path}: {name}"


def test_each_file_holds_the_tasks_of_its_topic():
    files = {
        "data": {"fetch", "table", "correct"},
        "training": {
            *("fine_tune", "evaluate", "find_label_issues", "export_onnx", "quantize_int8"),
            *("measure_label_agreement", "measure_decode_agreement", "fit_outlier_detector"),
            "evaluate_test",
            "publish",
        },
        "scoring": {"load", "list", "shards", "merge", "report"},
        "promotion": {"compare", "promote"},
    }
    for file, names in files.items():
        module = importlib.import_module(f"tasks.{file}")
        steps = [value for value in vars(module).values() if type(value) is Step]
        assert {step.options["name"] for step in steps} == names
