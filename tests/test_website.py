"""The website builds strictly, has every page, and needs no other host; the notebook is current."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from test_docs import GENERATED, ROOT, text_of

import visionflows
from visionflows.cli import main as cli


def test_every_page_is_in_the_navigation():
    def pages(entry) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        children = entry.values() if isinstance(entry, dict) else entry
        return [page for child in children for page in pages(child)]

    listed = pages(yaml.safe_load(text_of("mkdocs.yml"))["nav"])
    there = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    generated = {path.relative_to(ROOT / "docs").as_posix() for path in GENERATED}
    assert sorted(listed) == sorted(there | generated)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The website, built from a copy as `make docs` does."""
    root = tmp_path_factory.mktemp("site")
    for name in ("docs", "visionflows"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mkdocs.yml", "ARCHITECTURE.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, root)
    for command in (["docs/generate_reference.py"], ["-m", "zensical", "build", "--strict"]):
        done = subprocess.run([sys.executable, *command], cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return root / "build/site"


def test_the_site_has_every_page_and_needs_no_other_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(list(ROOT.glob("docs/**/*.md")))
    loading = r'<(?:script|img|iframe|source|video)[^>]+src="(?:https?:)?//[^"]+'
    linking = r'<link(?![^>]*rel="?canonical)[^>]+href="(?:https?:)?//[^"]+'
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(rf"{loading}|{linking}|class=\"mermaid", text), page


def test_the_reference_has_every_command_setting_and_function(site):
    command_line = (site / "reference/command-line/index.html").read_text(encoding="utf-8")
    for name in typer.main.get_command(cli.app).commands:
        assert f"visionflows {name}" in command_line
    settings = (site / "reference/settings/index.html").read_text(encoding="utf-8")
    for name in ("architecture", "min_precision", "password_file"):
        assert f"<code>{name}</code>" in settings
    python = (site / "reference/python/index.html").read_text(encoding="utf-8")
    for name in visionflows.__all__:
        assert f'id="visionflows.{name}"' in python, name


def test_the_notebook_is_the_tutorial_executed():
    spec = importlib.util.spec_from_file_location("notebook", ROOT / "examples/make_notebook.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    expected = maker.convert()
    notebook = json.loads(text_of("examples/tutorial.ipynb"))
    sources = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert sources == [(cell.cell_type, cell.source) for cell in expected.cells]
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error"]
    text = json.dumps(outputs)
    assert len(text) < 60_000
    assert "/tmp/" not in text
    assert "/home/" not in text
