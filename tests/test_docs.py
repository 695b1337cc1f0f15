"""What the documents promise: commands that exist, links that lead somewhere, columns that are."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from visionflows.cli import main as cli
from visionflows.images.image_status import STATUSES
from visionflows.scoring.job import COLUMNS, Job
from visionflows.scoring.schema import JobSettings

SETTINGS = JobSettings(precision="float32", batch_size=1, max_pixels=1, top=0, shard_size=1)
ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("infra/*.md")])


def lines_of(path: Path, program: str) -> list[str]:
    """The command lines of a program in a document: in code blocks, tables and running text."""
    text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
    found = re.findall(rf"(?:^\s*(?:\$ )?|`)({program} [^`\n|]*)", text, flags=re.MULTILINE)
    return [re.split(r"\s+#|\s{2,}|[&>;]", line)[0].strip() for line in found]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_documents_exist_with_their_options(path):
    for line in lines_of(path, "visionflows"):
        command = typer.main.get_command(cli.app)
        words = shlex.split(line)[1:]
        while hasattr(command, "commands") and words and not words[0].startswith("-"):
            first, *words = words
            for name in first.split("|"):
                assert name in command.commands, line
            command = command.commands[first.split("|")[0]]
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known | {"--help"}, line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_in_documents_exist(path):
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in lines_of(path, "make"):
        target = line.split()[1]
        if re.fullmatch(r"[a-z0-9-]+", target):
            assert target in targets, line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if not link.startswith("http"):
            assert (path.parent / link).exists(), link


def test_the_readme_names_the_columns_and_statuses_of_the_csv():
    text = (ROOT / "README.md").read_text()
    table = re.findall(r"^\| `([^`]+)` \|", text[text.index("| column |") :], re.MULTILINE)
    header = Job("in", "0", 1, "m", ("<class>",), SETTINGS).header
    assert header[: len(COLUMNS)] == list(COLUMNS)
    assert table[: len(header)] == header
    for status in STATUSES:
        assert f"`{status}`" in text


def test_the_rooms_and_files_of_the_architecture_are_there():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    names = {path.name for top in ("flows", "tasks", "visionflows") for path in _python(top)}
    for name in re.findall(r"\b(\w+\.py)\b", text):
        assert name in names or (ROOT / "tests" / name).exists(), name
    for room in sorted({path.parent.name for path in _python("visionflows")} - {"visionflows"}):
        assert re.search(rf"\b{room}/", text), room
    for path in [*_python("flows"), *_python("tasks")]:
        assert path.name in text or path.stem == "__init__", path


def _python(top: str) -> list[Path]:
    return sorted((ROOT / top).rglob("*.py"))


def test_the_table_of_a_billion_images_is_what_its_program_says():
    command = [sys.executable, ROOT / "bench/scale.py"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told in (ROOT / "docs/scale.md").read_text()
