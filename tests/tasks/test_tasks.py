"""Whether tasks/ and flows/ hold tasks and flows, and nothing else."""

import importlib
import types
from pathlib import Path

import pytest

from visionflows.orchestration.steps import Flow, Step

ROOT = Path(__file__).parents[2]


def made_in(module: types.ModuleType) -> dict[str, object]:
    """What a module makes itself: neither what it imports, nor what is its own affair."""
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


@pytest.mark.parametrize("room, kind", [("tasks", Step), ("flows", Flow)])
def test_a_room_holds_its_kind_and_nothing_else(room, kind):
    for path in sorted((ROOT / room).glob("[a-z]*.py")):
        module = importlib.import_module(f"{room}.{path.stem}")
        made = made_in(module)
        assert made, path
        for name, value in made.items():
            assert type(value) is kind, f"{path}: {name}"


def test_the_chapters_hold_the_steps_of_the_plan():
    chapters = {
        "data": {"fetch", "table", "correct"},
        "training": {
            *("fine_tune", "evaluate", "find_label_issues", "export_onnx", "quantize_int8"),
            *("measure_label_agreement", "measure_decode_agreement", "fit_outlier_detector"),
            "publish",
        },
        "scoring": {"load", "list", "shards", "merge", "report"},
        "promotion": {"compare", "promote"},
    }
    for chapter, names in chapters.items():
        module = importlib.import_module(f"tasks.{chapter}")
        steps = [value for value in vars(module).values() if type(value) is Step]
        assert {step.options["name"] for step in steps} == names
