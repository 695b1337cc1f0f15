"""The command line: help, exit statuses, errors of one line."""

import os
import subprocess
import sys

import pytest
import typer
from conftest import write_shapes

from visionflows.cli import main as cli
from visionflows.cli import program
from visionflows.cli.options import make_settings
from visionflows.scoring.settings import ScoreSettings
from visionflows.training.settings import TrainSettings


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "COLUMNS": "100", **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "visionflows.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        **options,
    )


def commands(group=None, before: tuple[str, ...] = ()):
    """Every command, by its full name."""
    group = group or typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


def test_every_command_has_an_example_and_describes_its_options():
    found = dict(commands())
    assert {("demo",), ("train",), ("score",), ("predict",), ("models", "list")} <= set(found)
    for words, command in found.items():
        assert command.epilog.startswith(f"Example: visionflows {' '.join(words)}")
        assert command.help
        with command.make_context("visionflows", [], resilient_parsing=True) as ctx:
            assert command.get_help(ctx)
        for parameter in command.get_params(ctx):
            if parameter.name != "help":
                assert getattr(parameter, "help", None), (words, parameter.name)


def test_help_does_not_import_heavy_libraries():
    result = run("--help")
    assert result.returncode == 0
    assert "predict" in result.stdout
    code = (
        "import sys, visionflows.cli.main, visionflows.storage;"
        "print([name for name in ('torch', 'fastai', 'prefect', 'boto3', 'pandas', 'numpy')"
        " if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "name,settings",
    [("train", TrainSettings), ("retrain", TrainSettings), ("score", ScoreSettings)],
)
def test_every_setting_is_an_option_with_its_description(name, settings):
    result = " ".join(run(name, "--help").stdout.split())
    command = dict(commands())[(name,)]
    options = {option.name: option for option in command.get_params(typer.Context(command))}
    for name, field in settings.model_fields.items():
        assert f"{options[name].opts[0]} " in result
        assert " ".join(field.description.replace("`", "").split()) in result
        if field.default is not None and not isinstance(field.default, bool):
            assert f"[default: {field.default}]" in result


def test_an_omitted_option_keeps_the_default_setting():
    given = {"lr": "find", "epochs": None, "augment": "none", "name": "pets"}
    assert make_settings(TrainSettings, given) == TrainSettings(lr="find", augment="none")


@pytest.mark.parametrize(
    "arguments,status,line",
    [
        (["train", "nowhere.tgz", "--name", "x"], 1, "nowhere.tgz: no such file or folder"),
        (["train", "digits", "--name", "x", "--epochs", "0"], 2, "--epochs 0:"),
        (["train", "digits", "--name", "x", "--labels", "regex:("], 2, "regex:("),
        (["train", "digits", "--name", "x", "--group", "column:site"], 2, "--group column:site: "),
        (["train", "digits", "--name", "x", "--class-names", "a,b"], 2, "--class-names a,b: "),
        (
            ["evaluate", "x", "digits", "--labels", "uppercase", "--class-names", "a"],
            *(2, "--labels uppercase:a: name the two classes"),
        ),
        (["retrain", "digits", "--name", "x", "--batch-size", "1"], 2, "--batch-size 1:"),
        (["train", "digits", "--name", "x", "--arch", "resnet19"], 2, "resnet19"),
        (["score", "nowhere", "--model", "cats", "--store", "no"], 1, "cats: no such model"),
        (["score", "nowhere", "--model", "cats", "--precision", "int4"], 2, "--precision int4:"),
        (["score", "gopher://x", "--model", "./y"], 1, "y: not a model artifact"),
    ],
)
def test_an_error_is_one_line_with_its_exit_status(
    arguments, status, line, tmp_path, monkeypatch, capsys
):
    """In this process, because starting the program takes seconds."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["visionflows", *arguments])
    assert program.status_of(cli.app) == status
    ours = [
        text for text in capsys.readouterr().err.splitlines() if text.startswith("visionflows: ")
    ]
    assert len(ours) == 1
    assert line in ours[0]


def test_a_usage_error_exits_with_2_and_an_error_prints_one_line(tmp_path):
    wrong = run("train", "--name", "x", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "Missing argument" in wrong.stderr
    failed = run("score", "nowhere", "--model", "cats", "--store", "no", cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stderr == (
        "visionflows: cats: no such model in no; there is none yet; `visionflows train` makes one\n"
    )
    assert failed.stdout == ""


def test_the_version_is_printed():
    from importlib.metadata import version

    assert run("--version").stdout == f"visionflows {version('visionflows')}\n"


@pytest.mark.parametrize("command", ["train", "retrain"])
def test_missing_corrections_fail_before_training(command, tmp_path):
    write_shapes(tmp_path / "in", each=4)
    words = (command, tmp_path / "in", "--name", "shapes", "--arch", "resnet18")
    done = run(*words, "--corrections", tmp_path / "no.csv", "--store", tmp_path / "store")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"visionflows: {tmp_path}/no.csv: no such file; check its name"
    assert not (tmp_path / "store/models").exists()
