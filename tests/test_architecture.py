"""The rules of the house that no linter knows: who may import whom, and when.

`ALLOWED` is the table. Each rule is a function of a tree, so that the tests below can plant what it
forbids in a copy, and see it named.
"""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "fastai", "timm", "prefect", "boto3", "botocore", "obstore", "ray")
PREFECT = ("flows", "tasks", "visionflows/orchestration", "visionflows/serve", "visionflows/cli")
OUTSIDE = ("tests", "bench", "docs", "infra")  # folders of programs that nothing here imports

# `bounded_read`: images and storage both read files, and neither knows the other.
_BASE = ("errors", "system", "hashing", "versioned_json", "bounded_read")
BASE = {f"visionflows/{name}.py" for name in _BASE}
ERRORS = {"visionflows/errors.py"}  # which the other base modules may import
BELOW = BASE | {"visionflows/images", "visionflows/storage"}
# The schemas of model.json and run.json: reports may import those, and nothing else there.
_INFO = {"visionflows/models/metrics_schema.py", "visionflows/models/schema.py"}
SCHEMAS = _INFO | {"visionflows/scoring/schema.py"}
MODELS = BELOW | {"visionflows/models"} | _INFO
EVALUATION = MODELS | {"visionflows/evaluation"}
JUDGING = {"visionflows/evaluation", "visionflows/monitoring", "visionflows/review"}
WORK = (
    MODELS
    | JUDGING
    | SCHEMAS
    | {"visionflows/inference", "visionflows/datasets", "visionflows/reports"}
)
TRAINING = {
    "visionflows/training",
    "visionflows/training/evidence",
    "visionflows/training/distributed",
    "visionflows/training/comparison",
}
LIBRARY = WORK | TRAINING | {"visionflows/scoring"}
# A package, or a base module, and what it may import besides itself.
ALLOWED: dict[str, set[str]] = {
    **{file: ERRORS - {file} for file in BASE},
    "visionflows/__init__.py": LIBRARY,
    "visionflows/images": BASE,
    "visionflows/storage": BASE | {"visionflows/storage/s3"},
    "visionflows/storage/s3": BASE | {"visionflows/storage"},
    "visionflows/datasets": BELOW,
    "visionflows/models/metrics_schema.py": BELOW,
    "visionflows/models/schema.py": BELOW | {"visionflows/models/metrics_schema.py"},
    "visionflows/scoring/schema.py": BELOW | JUDGING,
    "visionflows/models": BELOW | _INFO,
    "visionflows/evaluation": MODELS,
    "visionflows/monitoring": EVALUATION,
    "visionflows/review": BELOW,
    "visionflows/reports": BELOW | SCHEMAS | JUDGING,
    "visionflows/inference": EVALUATION,
    "visionflows/training": WORK | TRAINING,
    "visionflows/training/evidence": WORK | TRAINING,
    "visionflows/training/distributed": WORK | TRAINING,
    "visionflows/training/comparison": WORK | TRAINING,
    "visionflows/scoring": WORK,
    "visionflows/cluster": LIBRARY,
    "visionflows/orchestration": LIBRARY | {"visionflows/storage/s3"},
    "visionflows/serve": LIBRARY | {"visionflows/orchestration", "visionflows/storage/s3"},
    "visionflows/cli": LIBRARY | {"visionflows/orchestration", "visionflows/serve", "flows"},
    "tasks": LIBRARY | {"visionflows/cluster", "visionflows/orchestration"},
    "flows": LIBRARY | {"visionflows/cluster", "visionflows/orchestration", "tasks"},
}


def rooms_of(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file of ours and its room; a folder or file that the table does not know has none."""
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        top = name.partition("/")[0]
        if not top.startswith(".") and top not in OUTSIDE and top != "build":
            yield path, name if name in ALLOWED else path.parent.relative_to(root).as_posix()


def imported(root: Path, path: Path, top_level_only: bool = False) -> set[str]:
    """The modules that a file imports, anywhere in it: a dotted name each."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            assert node.level == 0, f"{path}: imports are absolute here"
    return found


def file_of(root: Path, module: str) -> Path | None:
    """The file of ours that a dotted name leads to, be it a module or a name in one."""
    parts = module.split(".")
    for some in (parts, parts[:-1]):
        for path in (root.joinpath(*some).with_suffix(".py"), root.joinpath(*some, "__init__.py")):
            if some and path.is_file():
                return path
    return None


def own_imports(root: Path, path: Path) -> set[Path]:
    """The files of ours that a file imports."""
    files = {file_of(root, module) for module in imported(root, path)}
    return {file for file in files if file} - {path}


def unknown(root: Path) -> Iterator[str]:
    """Folders and files that the table does not know, and rows of it that mean nothing."""
    known = dict(rooms_of(root))
    for path, room in known.items():
        if room not in ALLOWED:
            yield f"{path.relative_to(root)}: no room of the table"
    for room in ALLOWED.keys() - set(known.values()):
        yield f"{room}: in the table, and nowhere else"


def forbidden_arrows(root: Path) -> Iterator[str]:
    """Imports that the table does not allow."""
    room_of = dict(rooms_of(root))
    for path, room in room_of.items():
        for file in own_imports(root, path):
            there = room_of.get(file, "")
            if there != room and there not in ALLOWED.get(room, set()):
                yield f"{path.relative_to(root)} imports {file.relative_to(root)}"


def circles(root: Path) -> Iterator[str]:
    """Files that import each other, by whatever way round."""
    arrows = {path: own_imports(root, path) for path, _ in rooms_of(root)}
    done: set[Path] = set()

    def walk(path: Path, way: list[Path]) -> Iterator[str]:
        if path in way:
            yield " -> ".join(f"{one.relative_to(root)}" for one in [*way[way.index(path) :], path])
        elif path not in done:
            for file in sorted(arrows.get(path, ())):
                yield from walk(file, [*way, path])
            done.add(path)

    for path in arrows:
        yield from walk(path, [])


def heavy_at_the_top(root: Path) -> Iterator[str]:
    """Heavy libraries that come with a file's import; Prefect may, where it is at home."""
    for path, room in rooms_of(root):
        allowed = {"prefect"} if room in set(PREFECT) - {"visionflows/cli"} else set()
        named = {module.partition(".")[0] for module in imported(root, path, top_level_only=True)}
        for library in named & set(HEAVY) - allowed:
            yield f"{path.relative_to(root)} imports {library} before it is needed"


def prefect_elsewhere(root: Path) -> Iterator[str]:
    """Prefect (and the command line's typer) in rooms that know neither."""
    for path, room in rooms_of(root):
        named = {module.partition(".")[0] for module in imported(root, path)}
        if "prefect" in named and room not in PREFECT:
            yield f"{path.relative_to(root)} knows Prefect"
        if "typer" in named and room != "visionflows/cli":
            yield f"{path.relative_to(root)} knows the command line"


def buckets_elsewhere(root: Path) -> Iterator[str]:
    """boto3 and obstore outside the bucket's room, and `s3://` told from a path outside places."""
    for path, room in rooms_of(root):
        named = {module.partition(".")[0] for module in imported(root, path)}
        if named & {"boto3", "botocore", "obstore"} and room != "visionflows/storage/s3":
            yield f"{path.relative_to(root)} knows boto3"
        if room.startswith("visionflows/storage"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.value if isinstance(node, ast.Constant) else ""
            # A text that goes on after it tells people what to type; one that ends there decides.
            if isinstance(text, str) and (text.endswith("s3://") or text in ("://", "s3")):
                yield f"{path.relative_to(root)}:{node.lineno} tells buckets from paths"


RULES = (
    *(unknown, forbidden_arrows, circles, heavy_at_the_top),
    *(prefect_elsewhere, buckets_elsewhere),
)


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_its_rules(rule):
    assert list(rule(ROOT)) == []


PLANTED = [
    (unknown, "visionflows/attic/box.py", "", "attic/box.py: no room"),
    (unknown, "attic/box.py", "", "attic/box.py: no room"),
    (unknown, "visionflows/box.py", "", "box.py: no room"),
    (forbidden_arrows, "visionflows/storage/new.py", "from visionflows.images import open", "open"),
    (
        forbidden_arrows,
        "visionflows/datasets/new.py",
        "from visionflows.models import artifact",
        "artifact",
    ),
    (
        forbidden_arrows,
        "visionflows/inference/new.py",
        "import visionflows.datasets.file_table",
        "table",
    ),
    (
        forbidden_arrows,
        "visionflows/scoring/new.py",
        "def f():\n    from visionflows.training.learner import make_learner",
        "learner",
    ),
    (
        forbidden_arrows,
        "visionflows/models/new.py",
        "from tasks.data import fetch",
        "tasks/data.py",
    ),
    (forbidden_arrows, "tasks/new.py", "from flows.train import train", "flows/train.py"),
    (forbidden_arrows, "flows/new.py", "from visionflows.serve.up import up", "serve/up.py"),
    (forbidden_arrows, "flows/new.py", "from visionflows.cli import main", "cli/main.py"),
    (
        forbidden_arrows,
        "visionflows/datasets/new.py",
        "import visionflows.storage.s3.client",
        "client",
    ),
    (forbidden_arrows, "visionflows/errors.py", "import visionflows.system", "system.py"),
    (
        circles,
        "visionflows/errors.py",
        "def f():\n    from visionflows import hashing",
        "hashing.py",
    ),
    (heavy_at_the_top, "visionflows/inference/new.py", "import torch", "imports torch"),
    (heavy_at_the_top, "visionflows/datasets/new.py", "from fastai.vision.all import *", "fastai"),
    (heavy_at_the_top, "visionflows/cli/new.py", "from prefect import flow", "imports prefect"),
    (
        prefect_elsewhere,
        "visionflows/scoring/new.py",
        "def f():\n    from prefect.context import x",
        "knows Prefect",
    ),
    (prefect_elsewhere, "tasks/new.py", "import typer", "knows the command line"),
    (buckets_elsewhere, "visionflows/datasets/new.py", "def f():\n    import boto3", "knows boto3"),
    (
        buckets_elsewhere,
        "visionflows/storage/new.py",
        "def f():\n    import obstore",
        "knows boto3",
    ),
    (buckets_elsewhere, "flows/new.py", "a = b.startswith('s3://')", "tells buckets from paths"),
    (buckets_elsewhere, "visionflows/serve/new.py", "a = '://' in b", "tells buckets from paths"),
    (buckets_elsewhere, "tasks/new.py", "a = f's3://{b}/c'", "tells buckets from paths"),
]


@pytest.fixture
def copy(tmp_path) -> Path:
    for top in ("visionflows", "tasks", "flows"):
        shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize("rule, where, code, told", PLANTED)
def test_what_a_rule_forbids_is_seen(rule, where, code, told, copy):
    path = copy / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{code}\n{path.read_text() if path.exists() else ''}")
    if rule is circles:
        (copy / "visionflows/hashing.py").write_text("import visionflows.errors\n")
    assert any(told in line for line in rule(copy)), list(rule(copy))


def test_a_room_that_was_renamed_is_seen(copy):
    (copy / "visionflows/reports").rename(copy / "visionflows/pages")
    assert {line.partition(":")[2] for line in unknown(copy)} == {
        " no room of the table",
        " in the table, and nowhere else",
    }


@pytest.mark.parametrize(
    "module", ["visionflows", "visionflows.storage", "visionflows.cli.main", "visionflows.errors"]
)
def test_what_starts_first_starts_light(module):
    code = f"import sys, {module}; print(*(set({HEAVY!r}) & sys.modules.keys()))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ""


def test_every_room_says_what_belongs_there():
    for room in {room for _, room in rooms_of(ROOT) if not room.endswith(".py")}:
        doc = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()))
        assert doc, room
