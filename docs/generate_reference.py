"""Write the pages of the website that come from the code: run by `make docs` before the build.

    python docs/generate_reference.py

`docs/reference/command-line.md`, `settings.md` and `python.md`, `docs/explanation/architecture.md`
and `docs/changelog.md` are made here and not committed.
"""

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from typer.testing import CliRunner

import visionflows
from visionflows.cli.main import app
from visionflows.scoring.settings import ScoreSettings
from visionflows.serve.settings import UpSettings
from visionflows.training.settings import TrainSettings

DOCS = Path(__file__).parent
WIDTH = {"COLUMNS": "92", "TERMINAL_WIDTH": "92", "_TYPER_FORCE_DISABLE_TERMINAL": "1"}
BOUNDS = {"ge": "≥ ", "gt": "> ", "le": "≤ ", "lt": "< "}  # annotated-types, as pydantic has them
SETTINGS = {
    "Training": (TrainSettings, "`visionflows train` and `retrain`"),
    "Scoring": (ScoreSettings, "`visionflows score`"),
    "Server": (UpSettings, "`visionflows up`"),
}


def main() -> None:
    pages = {
        "reference/command-line.md": command_line(),
        "reference/settings.md": settings(),
        "reference/python.md": python(),
        "explanation/architecture.md": repository_page("ARCHITECTURE.md", "explanation"),
        "changelog.md": repository_page("CHANGELOG.md", ""),
    }
    for name, text in pages.items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(text, encoding="utf-8")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, in the order of the help."""
    for name, child in getattr(command, "commands", {}).items():
        if hasattr(child, "commands"):
            yield from commands(child, (*path, name))
        else:
            yield (*path, name)


def help_text(words: tuple[str, ...]) -> str:
    """What `visionflows WORDS --help` prints."""
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="visionflows", env=WIDTH)
    if result.exit_code:
        raise SystemExit(f"visionflows {' '.join(words)} --help: {result.output}")
    return result.output.strip().replace(f"{DOCS.parent}/", "")


def command_line() -> str:
    """A page with the help of every command."""
    text = [
        "# Command line",
        "Look up every command with its arguments, options and defaults. "
        "This page is the output of `--help`.",
        _block(help_text(())),
    ]
    for words in commands(typer.main.get_command(app)):
        text += [f"## visionflows {' '.join(words)}", _block(help_text(words))]
    return _page(text)


def settings() -> str:
    """A page with the fields of every settings class."""
    text = [
        "# Settings",
        "Look up every setting of a run, with its type, default and range. The same names are "
        "command-line options, parameters in Prefect's run form, and fields in Python.",
    ]
    for title, (model, user) in SETTINGS.items():
        text += [
            f"## {title}",
            f"`{model.__module__}.{model.__name__}`, used by {user}.",
            _settings_table(model),
        ]
    return _page(text)


def _settings_table(model: type[BaseModel]) -> str:
    rows = ["| setting | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        bounds = [
            f"{sign}{getattr(one, key):,}"
            for one in field.metadata
            for key, sign in BOUNDS.items()
            if hasattr(one, key)
        ]
        default = "none" if field.default is None else _default(field.default)
        limits = f" ({', '.join(bounds)})" if bounds else ""
        meaning = " ".join((field.description or "").split()).replace("|", r"\|")
        rows.append(f"| `{name}` | {_type(field.annotation)}{limits} | {default} | {meaning} |")
    return "\n".join(rows)


def _default(value: Any) -> str:
    if isinstance(value, Path):  # a file of the package is named without its location here
        return f"`{value.name if value.is_absolute() else value}`"
    return f"`{value}`" if value != "" else "empty"


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, types.UnionType) or get_origin(annotation) is not None:
        return " or ".join(_type(one) for one in get_args(annotation) if one is not type(None))
    return str(getattr(annotation, "__name__", annotation))


def python() -> str:
    """A page with the signature and docstring of everything that `import visionflows` offers."""
    text = [
        "# Python API",
        "Call the library from a notebook or a script. `import visionflows as vf` offers these "
        "names; each is imported when you first use it.",
        *(f"::: visionflows.{name}" for name in sorted(visionflows.__all__)),
    ]
    return _page(text)


def repository_page(name: str, folder: str) -> str:
    """A Markdown file of the repository's root as a page in a folder of docs/.

    Links to docs/ become links to pages; links to other files become their names.
    """
    up = "../" if folder else ""

    def link(found: re.Match[str]) -> str:
        label, target = found.groups()
        if target.startswith("docs/"):
            return f"[{label}]({up}{target.removeprefix('docs/')})"
        return found[0] if target.startswith(("http", "#")) else label

    text = (DOCS.parent / name).read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", link, text)


def _block(text: str) -> str:
    return f"```text\n{text}\n```"


def _page(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
