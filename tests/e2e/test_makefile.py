"""The Makefile refuses a too old Python and recreates an unusable .venv."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")


def python_of(version: str, path: Path) -> Path:
    """A fake Python that reports this version."""
    code = f"import sys; sys.version_info = {version}; "
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{code} $2"\n', encoding="utf-8"
    )
    path.chmod(0o755)
    return path


def venv(folder: Path, python: Path | str) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "Makefile", folder)
    words = ["make", "venv", f"PYTHON={python}"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 11, 2), (3, 11, 3)])
def test_a_too_old_python_is_refused_before_any_work(version, tmp_path):
    done = venv(tmp_path, python_of(version, tmp_path / "old/python"))
    assert done.returncode != 0
    assert done.stderr.startswith(
        "visionflows needs Python 3.11.4 or newer: make PYTHON=python3.12"
    )
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("before", ["none", "old", "gone", "torn"])
def test_an_unusable_venv_is_recreated(before, tmp_path):
    inside = tmp_path / ".venv/bin/python"
    if before == "old":
        python_of((3, 11, 2), inside)
    elif before == "gone":
        inside.parent.mkdir(parents=True)
        inside.symlink_to("/nowhere/python3.11")
    elif before == "torn":
        inside.parent.mkdir(parents=True)
    done = venv(tmp_path, sys.executable)
    assert done.returncode == 0, done.stderr
    asked = [inside, "-c", "import sys; print(sys.version_info[:3])"]
    found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    assert found == str(sys.version_info[:3])


def test_a_usable_venv_stays(tmp_path):
    assert venv(tmp_path, sys.executable).returncode == 0
    (tmp_path / ".venv/mine").touch()
    assert venv(tmp_path, sys.executable).returncode == 0
    assert (tmp_path / ".venv/mine").exists()
