"""Execute docs/tutorial.md as a notebook: what `make notebook` runs.

    python examples/make_notebook.py [examples/tutorial.ipynb]

Blocks marked `bash` and `python` become cells that run in an empty folder; the rest is text.
"""

import getpass
import os
import re
import socket
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
TUTORIAL, NOTEBOOK = ROOT / "docs/tutorial.md", ROOT / "examples/tutorial.ipynb"
# Says that cells are Python, so that blocks of `bash` get the magic `%%bash`.
HEADER = """---
jupyter:
  kernelspec: {name: python3, display_name: Python 3, language: python}
---
"""
_LINK = re.compile(r"\]\((?!https?:|#)([^)]+)\)")
_COLOR = re.compile(r"\x1b\[[0-9;]*m")


def convert(tutorial: Path = TUTORIAL) -> nbformat.NotebookNode:
    """The tutorial as a notebook without outputs; links to other pages point into docs/."""
    text = _LINK.sub(r"](../docs/\1)", tutorial.read_text(encoding="utf-8"))
    notebook = jupytext.reads(HEADER + text, fmt="md")
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec}
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
    return notebook


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of all cells, run in `folder`.

    Raises nbclient.exceptions.CellExecutionError if a cell fails.
    """
    binaries = os.path.dirname(sys.executable)
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")},
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=env)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = _anonymous(output.text, folder)
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec}
    return notebook


def _anonymous(text: str, folder: Path) -> str:
    """Text without colors, the path of the folder, and the names of this user and machine."""
    user = f"{getpass.getuser()}@{socket.gethostname()}"
    text = text.replace(f"{folder}/", "").replace(user, "you@laptop".ljust(len(user)))
    return _COLOR.sub("", text)


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else NOTEBOOK
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(convert(), Path(folder))
    nbformat.validate(notebook)
    nbformat.write(notebook, target)


if __name__ == "__main__":
    main()
