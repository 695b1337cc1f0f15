"""An install without torch and fastai scores, and says what to install for training."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from visionflows.scoring.local_run import score_folder

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "fastai", "timm", "matplotlib", "sklearn", "scipy", "onnx")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """The Python of an environment that `pip install visionflows` makes."""
    folder = tmp_path_factory.mktemp("small") / "venv"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    python = folder / "bin/python"
    subprocess.run([*uv, "venv", "--python", sys.executable, folder], check=True)
    pinned = ["--constraint", ROOT / "constraints.txt", ROOT]
    subprocess.run([*uv, "pip", "install", "--python", python, *pinned], check=True, cwd=folder)
    return python


def run(python: Path, *words) -> subprocess.CompletedProcess[str]:
    command = [python, "-P", "-m", "visionflows.cli", *map(str, words)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, env=env)


def test_score_predict_and_doctor_work(small, trained, tmp_path):
    code = f"from importlib.util import find_spec; print([n for n in {HEAVY} if find_spec(n)])"
    done = subprocess.run([small, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    named = ("--model", "shapes", "--store", trained.store)
    done = run(small, "score", trained.dataset, *named, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    score_folder(str(trained.dataset), "shapes", str(tmp_path / "here"), trained.store)
    ours, theirs = ((tmp_path / one / "predictions.csv").read_bytes() for one in ("here", "out"))
    assert ours == theirs
    assert ours.count(b",ok,") == len(trained.table)
    one = next(trained.dataset.rglob("*.png"))
    assert run(small, "predict", one, *named).stdout.startswith(f"{one}: ('")
    examined = run(small, "doctor")
    assert "OpenVINO" in examined.stdout
    assert "FAIL" not in examined.stdout, examined.stdout


@pytest.mark.parametrize("words", [("train", "digits", "--name", "d"), ("demo",)])
def test_training_commands_name_the_missing_packages_in_one_line(small, words, tmp_path):
    done = run(small, *words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "torch, torchvision, fastai" in done.stderr
    assert "pip install 'visionflows[train]'" in done.stderr


def test_no_training_package_is_required():
    needs = [Requirement(line) for line in metadata.requires("visionflows") or []]
    base = {need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})}
    assert not base & {*HEAVY, "scikit-learn", "onnxscript", "onnxruntime", "nncf"}
