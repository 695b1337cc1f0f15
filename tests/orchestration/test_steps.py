"""Flows and steps without a Prefect server, and how a server is configured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_shapes
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.train import train
from visionflows.errors import SettingsError

FLOWS = ("train", "score", "retrain", "demo")


def fresh(code: str, home: Path, **env: str) -> str:
    """The output of a new process that runs this code, with an empty home and no server."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    path = f"{Path(__file__).parents[2]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "HOME": str(home), "PYTHONPATH": path, **env},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_scoring_without_a_server_does_not_import_prefect(trained, tmp_path):
    folder = write_shapes(tmp_path / "in", each=2)
    code = f"""
import sys
from flows.score import score
run = score({str(folder)!r}, "shapes", {str(tmp_path / "out")!r}, {str(trained.store)!r})
print(run["counts"]["ok"], sorted({{"prefect", "fastai", "uvicorn"}} & sys.modules.keys()))
"""
    assert fresh(code, tmp_path) == "6 []"
    assert not (tmp_path / ".prefect").exists()
    assert (tmp_path / "out/run.json").exists()


def test_a_deployment_finds_flows_imported_before_prefect(tmp_path):
    code = f"""
import json, sys
import flows.train, flows.score, flows.retrain, flows.demo
assert "prefect" not in sys.modules
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint
found = [load_flow_from_entrypoint(f"flows.{{name}}.{{name}}") for name in {FLOWS!r}]
print(json.dumps([[isinstance(one, Flow), one.name, one.parameters.required] for one in found]))
"""
    result = json.loads(fresh(code, tmp_path))
    assert result == [
        [True, "train", ["dataset", "name"]],
        [True, "score", ["input", "model"]],
        [True, "retrain", ["dataset", "name"]],
        [True, "demo", ["folder"]],
    ]


def test_the_run_form_describes_every_parameter(tmp_path):
    code = f"""
from prefect.flows import load_flow_from_entrypoint
for name in {[*FLOWS, "evaluate", "notify"]!r}:
    fields = load_flow_from_entrypoint(f"flows.{{name}}.{{name}}").parameters.properties
    print(name, *(parameter for parameter, one in fields.items() if not one.get("description")))
print(fields["run"]["description"])
"""
    expected = [*FLOWS, "evaluate", "notify"]
    described = "The run's id, or the name of its resource: prefect.flow-run.ID."
    assert fresh(code, tmp_path).splitlines() == [*expected, described]


def test_retries_that_are_set_for_other_flows_are_not_ours(tmp_path):
    code = """
from flows.score import score
from tasks.scoring import load, merge
print(score.retries, load.task.retries, merge.task.retries)
"""
    others = dict.fromkeys(("PREFECT_FLOWS_DEFAULT_RETRIES", "PREFECT_TASKS_DEFAULT_RETRIES"), "2")
    assert fresh(code, tmp_path, **others) == "0 0 0"


PROFILES = """
active = "{}"
[profiles.here]
PREFECT_API_URL = "http://127.0.0.1:9/api"
[profiles.none]
PREFECT_LOGGING_LEVEL = "INFO"
"""


@pytest.mark.parametrize(
    "active,env,named",
    [
        ("", {}, "False"),
        ("", {"PREFECT_API_URL": "http://127.0.0.1:9/api"}, "True"),
        ("here", {}, "True"),
        ("none", {}, "False"),
        ("none", {"PREFECT_PROFILE": "here"}, "True"),
    ],
)
def test_a_server_is_configured_by_environment_or_profile(active, env, named, tmp_path):
    if active:
        (tmp_path / ".prefect").mkdir()
        (tmp_path / ".prefect/profiles.toml").write_text(PROFILES.format(active))
    code = "from visionflows.orchestration import server; print(server.is_configured())"
    assert fresh(code, tmp_path, **env) == named


def test_arguments_are_validated_without_prefect(tmp_path):
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(SettingsError, match="valid_pct 5: input should be less than 1") as caught,
    ):
        train("digits", "digits", valid_pct=5, store=str(tmp_path))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
