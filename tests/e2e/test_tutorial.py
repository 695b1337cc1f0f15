"""The commands of the tutorial, run as they are written."""

import importlib.util
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)  # it trains two networks
def test_the_tutorial_runs_as_a_notebook(tmp_path):
    spec = importlib.util.spec_from_file_location("notebook", ROOT / "examples/make_notebook.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    notebook = maker.execute(maker.convert(), tmp_path)  # raises if a cell fails
    nbformat.validate(notebook)
    text = "\n".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())
    )
    assert "published digits@" in text
    assert "unreadable" in text
    assert "production stays" in text or "promoted" in text
