"""No Python file has over 300 lines, and most functions have 20 or fewer."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FILE, SHORT_FUNCTION = 300, 20  # lines
SHARE_OF_SHORT = 0.85  # of the functions of library, tasks and flows


def long_files(root: Path) -> set[str]:
    """The Python files of a tree with too many lines, without files of tools."""
    tops = [path for path in root.iterdir() if not path.name.startswith((".", "build"))]
    found = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*"))]
    ours = {path.relative_to(root).as_posix(): path for path in found if path.suffix == ".py"}
    assert ours
    return {
        name for name, path in ours.items() if len(path.read_text().splitlines()) > LONGEST_FILE
    }


def lengths(root: Path) -> list[int]:
    """How many lines each function of library, tasks and flows has, its decorators left out."""
    return [
        (node.end_lineno or 0) - node.lineno + 1
        for top in ("visionflows", "tasks", "flows")
        for path in (root / top).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_no_file_is_too_long():
    assert long_files(ROOT) == set()


def test_names_of_test_modules_are_unique():
    """pytest imports them by their names alone."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_most_functions_are_short():
    found = lengths(ROOT)
    assert sum(length <= SHORT_FUNCTION for length in found) >= SHARE_OF_SHORT * len(found)


@pytest.mark.parametrize("lines, seen", [(300, set()), (301, {"tasks/new.py"})])
def test_a_long_file_is_reported(tmp_path, lines, seen):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/new.py").write_text("x = 1\n" * lines)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/theirs.py").write_text("x = 1\n" * 999)
    assert long_files(tmp_path) == seen


def test_the_length_of_a_function_is_counted(tmp_path):
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/new.py").write_text("@step\ndef f():\n" + "    x = 1\n" * 20)
    assert lengths(tmp_path) == [21]
