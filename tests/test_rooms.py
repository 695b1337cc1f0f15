"""The rules of the house that no linter knows: who may import whom, and when."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STEPS = ("fetch", "table", "fine_tune", "evaluate", "predict", "report", "compare")
HEAVY = ("torch", "torchvision", "fastai", "timm", "prefect", "boto3", "botocore")


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """The modules a file imports: `from tasks import images` is `tasks` and `tasks.images`."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).glob("*.py"))


def test_arrows_point_one_way():
    for path in files("tasks"):
        named = {name.partition(".")[0] for name in imports(path)}
        assert not named & {"flows", "deployments", "prefect", "typer"}, path
    for name in ("storage", "errors"):
        ours = {one for one in imports(ROOT / f"tasks/{name}.py") if one.startswith("tasks")}
        allowed = {"tasks.errors", "tasks.names", "tasks.s3", "tasks.walk"}
        assert {".".join(one.split(".")[:2]) for one in ours} - {"tasks"} <= allowed, name


def test_a_step_does_not_import_another_step():
    for step in STEPS:
        path = ROOT / f"tasks/{step}.py"
        if path.exists():
            others = {f"tasks.{other}" for other in STEPS if other != step}
            assert not imports(path) & others, step


def test_heavy_libraries_are_imported_when_they_are_needed():
    for path in files("tasks"):
        named = {name.partition(".")[0] for name in imports(path, top_level_only=True)}
        assert not named & set(HEAVY), path


@pytest.mark.parametrize("module", ["tasks.storage", "flows.cli", "tasks.errors"])
def test_what_starts_first_starts_light(module):
    code = f"import sys, {module}; print(*({HEAVY!r} & sys.modules.keys()))"
    code = code.replace(repr(HEAVY), f"set({HEAVY!r})")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ""


def test_only_storage_knows_s3_from_a_path():
    for path in [*files("tasks"), *files("flows")]:
        if not path.stem.startswith("s3"):
            assert "boto3" not in {name.partition(".")[0] for name in imports(path)}, path
