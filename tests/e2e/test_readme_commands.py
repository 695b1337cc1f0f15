"""The commands of the README, run as they are written."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_shapes
from stopping import environment

pytestmark = pytest.mark.timeout(900)  # each trains two networks

ROOT = Path(__file__).parents[2]
LIMIT = 400  # seconds of a command; each trains one network at most
# CI runs `make`, and test_up.py runs `visionflows up`; `source` is the shell's.
NOT_RUN = ("make ", "source ", "visionflows up")


def readme_commands() -> list[str]:
    """The lines of the README's console blocks, without prompt and comment."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [re.split(r"\s+#|\s{2,}", line[2:])[0] for line in lines]


def pretrained_weights(cache: Path) -> None:
    """Put random weights where torchvision keeps a download, so that none is needed."""
    import torch
    from torchvision.models import ResNet34_Weights, resnet34

    cache.mkdir(parents=True)
    name = ResNet34_Weights.DEFAULT.url.rpartition("/")[2]
    torch.save(resnet34(weights=None).state_dict(), cache / name)


@pytest.fixture
def shell(tmp_path):
    """A function that runs a line in an empty folder where `visionflows` is a command."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    program = binaries / "visionflows"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m visionflows.cli "$@"\n')
    program.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    env = environment(PATH=path, TORCH_HOME=str(tmp_path / "torch"), PYTHONFAULTHANDLER="1")

    def run(line: str) -> str:
        started = subprocess.Popen(
            ["bash", "-c", line],
            cwd=work,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = started.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGABRT)  # Python then prints where every thread is
            pytest.fail(f"{line}: not within {LIMIT} s\n{started.communicate()[0]}")
        assert started.returncode == 0, f"{line}\n{printed}"
        return printed

    run.folder = work
    return run


def test_commands_of_the_readme_run(shell, tmp_path):
    pretrained_weights(tmp_path / "torch/hub/checkpoints")
    photos = write_shapes(shell.folder / "photos", each=12)
    shutil.copytree(photos, shell.folder / "inbox")
    shutil.copy(photos / "circle/0000.png", shell.folder / "cat.jpg")
    shell("visionflows demo")  # `make demo`, after the install
    printed = {line: shell(line) for line in readme_commands() if not line.startswith(NOT_RUN)}
    head = next(text for line, text in printed.items() if line.startswith("head "))
    readme = (ROOT / "README.md").read_text()
    assert head.splitlines()[0] in readme.splitlines()
    assert (shell.folder / "scores/inbox/report.html").exists()
    assert any(line.startswith("visionflows predict") for line in printed)
