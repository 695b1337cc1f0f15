"""The documents agree with the code: commands, links, columns, variables, events, figures."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from visionflows.cli import main as cli
from visionflows.images.image_status import STATUSES
from visionflows.models.registry import FILES
from visionflows.monitoring.run_records import Histograms
from visionflows.review.corrections import COLUMNS as CORRECTIONS
from visionflows.scoring.columns import COLUMNS, header
from visionflows.scoring.schema import JobSettings, RunResult

ROOT = Path(__file__).parents[1]
GENERATED = {
    ROOT / "docs" / name
    for name in (
        *("reference/command-line.md", "reference/settings.md", "reference/python.md"),
        *("explanation/architecture.md", "changelog.md"),
    )
}
DOCUMENTS = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("infra/*.md")} - GENERATED
)
BY_NAME = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)
SOURCES = ("visionflows", "flows", "tasks", "deployments")
LONGEST_SENTENCE = 25  # words
# Words that readers of fastai and Prefect do not expect: each has a word of the field instead.
DIALECT = (
    r"bundles?|books|oddness|oddest|passed over|told|hears? of|look-?alikes?|suspects?|misses|"
    r"flips|brought|anew|strangers?|whoever|whatever|thereof|places?|rooms?|vouch\w*|brings along|"
    r"pictures of another kind|as people|as ever|such as it is|judged|mottos?|drafts?|alike|fleet"
)
# Read from the environment, but set only by visionflows itself.
S3_NUMBERS = ("CONNECTIONS", "ATTEMPTS", "TIMEOUT", "PATIENCE")  # after VISIONFLOWS_S3_
INTERNAL = {"VISIONFLOWS_UP"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def source() -> str:
    """The text of all packages."""
    paths = [path for top in SOURCES for path in sorted((ROOT / top).rglob("*.*"))]
    return "\n".join(
        path.read_text(encoding="utf-8") for path in paths if path.suffix in (".py", ".yaml")
    )


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its header: a list of cells each."""
    lines = iter(text[text.index(f"{heading}\n") :].splitlines())
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif rows:
            break
    return rows[2:]


def names_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def command_lines(path: Path, program: str) -> list[str]:
    """The command lines of a program in a document: in code blocks, tables and running text."""
    text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
    fenced = "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    in_blocks = re.compile(rf"^\s*(?:\$ )?({program} [^\n|]*)", re.MULTILINE)
    indented = "\n".join(line for line in text.splitlines() if line.startswith("    "))
    found = [*in_blocks.findall(fenced), *in_blocks.findall(indented)]
    found += re.findall(rf"`({program} [^`\n|]*)`", text)
    return [re.split(r"\s+#|\s{2,}|[&>]|;(?!')", line)[0].strip() for line in found]


@BY_NAME
def test_commands_in_documents_exist_with_their_options(path):
    for line in command_lines(path, "visionflows"):
        command = typer.main.get_command(cli.app)
        words = [word for word in shlex.split(line)[1:] if word != "…"]
        options = {name for one in command.params for name in one.opts}
        while hasattr(command, "commands") and words:
            first, *words = words
            if first.startswith("-"):
                assert first in options | {"--help", "--install-completion", "--version"}, line
                continue
            assert first in command.commands, line
            command = command.commands[first]
        parameters = command.get_params(typer.Context(command))
        known = {name for one in parameters for name in (*one.opts, *one.secondary_opts)}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known | {"--help"}, line


@BY_NAME
def test_make_targets_in_documents_exist(path):
    targets = set(re.findall(r"^([a-z0-9-]+):", text_of("Makefile"), re.MULTILINE))
    for line in command_lines(path, "make"):
        target = line.split()[1]
        if re.fullmatch(r"[a-z0-9-]+", target):
            assert target in targets, line


@BY_NAME
def test_links_lead_somewhere(path):
    text = re.sub(r"^(```|~~~).*?^\1", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        if not link.startswith("http"):
            target = (path.parent / link).resolve()
            assert target.exists() or target in GENERATED, link


def prose(text: str) -> list[str]:
    """The sentences of a document: without code, tables, headings and HTML."""
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)(\{[^}]*\})?", r"\1", text)
    blocks: list[str] = [""]
    for line in text.splitlines():
        if line.startswith(("|", "#", "<", "    ", ":::")) or not line.strip():
            blocks.append("")
        elif re.match(r"\s*([-*]|\d+\.) ", line):
            blocks.append(re.sub(r"\s*([-*]|\d+\.) ", "", line, count=1))
        else:
            blocks[-1] += " " + line.strip()
    return [one for block in blocks for one in re.split(r"(?<=[.!?:])\s+", block) if one]


@BY_NAME
def test_sentences_are_short(path):
    for sentence in prose(path.read_text(encoding="utf-8")):
        words = [word for word in sentence.split() if re.search(r"\w", word)]
        assert len(words) <= LONGEST_SENTENCE, sentence


@BY_NAME
def test_documents_use_the_words_of_the_field(path):
    text = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not re.findall(rf"\b({DIALECT})\b", text, re.IGNORECASE)


@BY_NAME
def test_python_blocks_use_functions_that_exist(path):
    import visionflows

    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        compile(block, str(path), "exec")
        assert set(re.findall(r"\bvf\.(\w+)", block)) <= set(visionflows.__all__), block


def test_pages_begin_with_what_the_reader_can_do():
    for path in DOCUMENTS:
        title, blank, first = path.read_text(encoding="utf-8").splitlines()[:3]
        assert title.startswith("# "), path
        assert not blank, path
        assert re.match(r"[A-Z]|visionflows", first), path


def test_the_readme_is_short():
    assert len(text_of("README.md").splitlines()) <= 120


def test_the_readme_has_real_rows():
    shown = text_of("README.md").split("predictions.csv\n", 1)[1].split("```")[0]
    first, *rows = [line.split(",") for line in shown.splitlines() if not line.startswith("$")]
    assert first[: len(COLUMNS)] == list(COLUMNS)
    assert len(rows) == 3
    assert {len(row) for row in rows} == {len(first)}


def test_columns_and_statuses_are_those_of_the_code():
    text = text_of("docs/reference/files.md")
    rows = table(text, "### predictions.csv")
    columns = [name for cell, *_ in rows for name in names_in(cell)]
    chosen = {"top": 1, "exif": True, "find_duplicates": True, "outliers": True}
    settings = JobSettings.model_construct(**chosen, thresholds=(0.5,))
    assert columns == header(["<class>"], settings)
    assert [names_in(cell)[0] for cell, _ in table(text, "Columns appear in this order.")] == [
        *STATUSES
    ]


def test_keys_of_json_files_are_those_of_the_schemas():
    text = text_of("docs/reference/files.md")
    keys = {name for cell, _ in table(text, "### run.json") for name in names_in(cell)}
    assert keys <= RunResult.model_fields.keys()
    assert {
        name for cell, _ in table(text, "### history/") for name in names_in(cell)
    } == Histograms.model_fields.keys()
    files = [name for cell, _ in table(text, "### files.csv") for name in names_in(cell)]
    assert files == FILES
    corrections = [name for cell, _ in table(text, "## corrections.csv") for name in names_in(cell)]
    assert sorted(corrections) == sorted(CORRECTIONS)
    assert f"    {','.join(CORRECTIONS)}\n" in text


def test_files_that_runs_write_are_those_of_the_code():
    written = source()
    for heading in ("## A scoring run", "## A model"):
        for cell, *_ in table(text_of("docs/reference/files.md"), heading):
            for name in names_in(cell):
                stem = name.rstrip("/").removeprefix("model.int8")
                assert stem in written, name


def test_environment_variables_are_those_of_the_code():
    pattern = r"\bVISIONFLOWS_[A-Z0-9_]*[A-Z0-9]\b"
    code = source()
    read = set(re.findall(pattern, code)) - INTERNAL
    read |= {f"VISIONFLOWS_S3_{name}" for name in S3_NUMBERS}
    for name in S3_NUMBERS:
        assert f'"{name}"' in text_of("visionflows/storage/s3/client.py")
    text = text_of("docs/reference/environment.md")
    documented = set(re.findall(rf"^\| `({pattern})`", text, re.MULTILINE))
    assert documented == read - {"VISIONFLOWS_S3"}
    for path in DOCUMENTS:
        named = set(re.findall(pattern, path.read_text(encoding="utf-8")))
        assert named <= documented | {"VISIONFLOWS_TEST_FUZZ"}, path


def test_events_are_those_of_the_code():
    text, code = text_of("docs/reference/events.md"), source()
    documented = {names_in(cell)[0] for cell, *_ in table(text, "# Events")}
    assert documented == set(
        re.findall(r"\bvisionflows\.(?:model|batch|run)\.[a-z]+\b(?!\.[a-z{])", code)
    )
    for event in documented:
        for cell, _ in table(text, f"## {event}"):
            for key in names_in(cell):
                sent = re.search(rf"""["']{key}["']\s*(:|\))|payload\.get\('{key}'\)""", code)
                assert sent, (event, key)


def test_deployments_are_those_of_the_file():
    text = text_of("docs/reference/deployments.md")
    file = yaml.safe_load(text_of("deployments/prefect.yaml"))
    rows = table(text, "## Deployments")
    assert [names_in(row[0])[0] for row in rows] == [one["name"] for one in file["deployments"]]
    for row, deployment in zip(rows, file["deployments"], strict=True):
        assert names_in(row[1]) == [deployment["entrypoint"]]
        crons = [one["cron"] for one in deployment.get("schedules", ())]
        assert [name for name in names_in(row[2]) if "*" in name] == crons
    rules = next(iter(file["build"][0].values()))["rules"]
    assert [row[0] for row in table(text, "## Rules")] == [
        rule["name"].removeprefix("visionflows: ") for rule in rules
    ]


def test_packages_and_files_of_the_architecture_exist():
    text = text_of("ARCHITECTURE.md")
    for name in re.findall(r"`([\w/]+\.py|[\w/]+/)`", text):
        assert any((top / name).exists() for top in (ROOT, ROOT / "visionflows")), name
    for path in sorted((ROOT / "visionflows").rglob("__init__.py")):
        package = path.parent.relative_to(ROOT / "visionflows").as_posix()
        assert package == "." or f"{path.parent.name}/" in text, package


def test_the_speed_in_the_readme_is_that_of_the_benchmarks():
    rows = table(text_of("README.md"), "## How fast")
    names = ("score-large-bfloat16", "score-resnet34-bfloat16", "score-lite0")
    for row, name in zip(rows, names, strict=True):
        found = json.loads(text_of(f"bench/results/2026-11-26-{name}.json"))["images_per_second"]
        assert row[2:4] == [str(found["get_preds"]), str(found["engine"])]
        assert abs(float(row[4]) - found["engine"] / found["get_preds"]) <= 0.3


def test_the_table_of_a_billion_images_is_that_of_its_program():
    command = [sys.executable, ROOT / "bench/scale.py"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed in text_of("docs/explanation/scale.md")
