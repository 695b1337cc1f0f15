"""The import contracts of pyproject.toml hold, and the rules that import-linter cannot express.

Each rule is a function of a source tree, so that tests can plant a violation in a copy and see it
reported.
"""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("visionflows", "tasks", "flows")
HEAVY = ("torch", "torchvision", "fastai", "timm", "prefect", "boto3", "botocore", "obstore", "ray")
# Modules that import heavy libraries; imported inside functions, as the libraries are.
LAZY = {
    *("visionflows/inference/cuda", "visionflows/inference/torch_network"),
    *(
        f"visionflows/training/{name}"
        for name in (
            *("recipes", "trainer", "learner", "dataloaders", "epochs", "mixed_precision"),
            *("onnx_graph", "distributed/sharded_loader", "evidence/image_grids"),
        )
    ),
}
PREFECT = ("flows", "tasks", "visionflows/orchestration", "visionflows/serve")


def sources(root: Path) -> Iterator[tuple[str, ast.Module]]:
    """Every source file below the packages: its path relative to `root`, and its syntax tree."""
    for top in TOPS:
        for path in sorted((root / top).rglob("*.py")):
            yield path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def heavy_at_the_top(root: Path) -> Iterator[str]:
    """Heavy libraries that importing a module imports; Prefect is allowed in its packages."""
    for name, tree in sources(root):
        if name.removesuffix(".py") in LAZY:
            continue
        allowed = {"prefect"} if name.startswith(PREFECT) else set()
        for node in tree.body:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {module.partition(".")[0] for module in modules}
            tops |= {module for module in modules if module.replace(".", "/") in LAZY}
            for library in tops & {*HEAVY, *(path.replace("/", ".") for path in LAZY)} - allowed:
                yield f"{name} imports {library} at the top"


def buckets_outside_storage(root: Path) -> Iterator[str]:
    """Code outside storage that distinguishes a bucket from a local path."""
    for name, tree in sources(root):
        if name.startswith("visionflows/storage/"):
            continue
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else ""
            # A text that continues after s3:// is help; one that ends there is a check.
            decides = isinstance(text, str) and (text.endswith("s3://") or text in ("://", "s3"))
            if decides or _asks_for_a_backend(node):
                yield f"{name}:{node.lineno} tells buckets from local paths"


def _asks_for_a_backend(node: ast.AST) -> bool:
    """Whether a node is `isinstance(x, LocalStorage)` or the like."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
    return called == "isinstance" and bool(names & {"LocalStorage", "S3Storage"})


def packages_without_docstring(root: Path) -> Iterator[str]:
    """Packages whose __init__.py does not say what belongs there."""
    for name, tree in sources(root):
        if name.endswith("__init__.py") and not ast.get_docstring(tree):
            yield f"{name} has no docstring"


RULES = (heavy_at_the_top, buckets_outside_storage, packages_without_docstring)


def broken_contracts(root: Path) -> str:
    """What import-linter prints of a tree; empty if every contract is kept."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env={"PATH": ""})
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize("rule", RULES)
def test_the_source_keeps_the_rule(rule):
    assert list(rule(ROOT)) == []


def test_the_import_contracts_are_kept():
    assert broken_contracts(ROOT) == ""


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the packages and their configuration."""
    for top in TOPS:
        shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(root: Path, name: str, code: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{code}\n{path.read_text() if path.exists() else ''}")


PLANTED_IMPORTS = [
    ("visionflows/attic/__init__.py", "", "attic"),
    ("visionflows/storage/new.py", "from visionflows.images import open", "visionflows.images"),
    (
        "visionflows/datasets/new.py",
        "def f():\n    import visionflows.models.artifact",
        "visionflows.models",
    ),
    ("visionflows/reports/new.py", "from visionflows.scoring import job", "visionflows.scoring"),
    ("visionflows/models/new.py", "from tasks.data import fetch", "tasks"),
    ("flows/new.py", "from visionflows.serve.up import up", "visionflows.serve"),
    ("visionflows/errors.py", "import visionflows.system", "visionflows.system"),
    ("visionflows/scoring/new.py", "def f():\n    from prefect.context import x", "prefect"),
    ("tasks/new.py", "import typer", "typer"),
    ("visionflows/storage/new.py", "def f():\n    import boto3", "boto3"),
    ("visionflows/datasets/new.py", "import visionflows.storage.s3.client", "storage.s3.client"),
]


@pytest.mark.parametrize("name, code, reported", PLANTED_IMPORTS)
def test_a_forbidden_import_is_reported(name, code, reported, copy):
    plant(copy, name, code)
    found = broken_contracts(copy)
    assert "BROKEN" in found or "not listed" in found or "missing" in found.lower(), found
    assert reported in found


def test_an_import_cycle_is_reported(copy):
    plant(copy, "visionflows/scoring/one.py", "import visionflows.scoring.two")
    plant(copy, "visionflows/scoring/two.py", "def f():\n    import visionflows.scoring.one")
    assert "No import cycles BROKEN" in broken_contracts(copy)


PLANTED = [
    (heavy_at_the_top, "visionflows/inference/new.py", "import torch"),
    (heavy_at_the_top, "visionflows/inference/new.py", "from visionflows.inference.cuda import A"),
    (heavy_at_the_top, "visionflows/datasets/new.py", "from fastai.vision.all import *"),
    (heavy_at_the_top, "visionflows/cli/new.py", "from prefect import flow"),
    (heavy_at_the_top, "tasks/new.py", "from visionflows.training.dataloaders import A"),
    (buckets_outside_storage, "flows/new.py", "a = b.startswith('s3://')"),
    (buckets_outside_storage, "visionflows/serve/new.py", "a = '://' in b"),
    (buckets_outside_storage, "tasks/new.py", "a = f's3://{b}/c'"),
    (buckets_outside_storage, "visionflows/scoring/new.py", "isinstance(a, LocalStorage)"),
    (packages_without_docstring, "visionflows/review/__init__.py", "x = 1"),
]


@pytest.mark.parametrize("rule, name, code", PLANTED)
def test_a_broken_rule_is_reported(rule, name, code, tmp_path):
    plant(tmp_path, name, code)
    assert [line for line in rule(tmp_path) if line.startswith(name)], name


@pytest.mark.parametrize(
    "module", ["visionflows", "visionflows.storage", "visionflows.cli.main", "visionflows.errors"]
)
def test_what_starts_first_imports_no_heavy_library(module):
    code = f"import sys, {module}; print(*(set({HEAVY!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
