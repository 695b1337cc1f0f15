"""What the commands print of a model and of a scoring run."""

import re
import subprocess
import sys

from conftest import shape, write_shapes
from stopping import environment


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "visionflows.cli", *map(str, arguments)]
    env = environment(COLUMNS="100")
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_output_of_score_predict_and_models(trained, tmp_path):
    folder = write_shapes(tmp_path / "in", each=3)
    (folder / "empty.jpg").write_bytes(b"")
    store = ("--store", trained.store)
    dry = run("score", folder, "--model", "shapes", *store, "--output", tmp_path / "o", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert re.search(r"left +10\n", dry.stdout)
    assert not (tmp_path / "o").exists()
    scored = run("score", folder, "--model", "shapes", *store, "--output", tmp_path / "o")
    assert scored.returncode == 0, scored.stderr
    assert scored.stdout.splitlines()[0] == "10 files found: 9 ok, 1 failed"
    assert scored.stdout.splitlines()[-1] == f"{tmp_path}/o/run.json"
    shape("square", 7).save(tmp_path / "a.png")
    both = run("predict", tmp_path / "a.png", tmp_path / "gone.png", "--model", "shapes", *store)
    assert both.returncode == 1
    first, second = both.stdout.splitlines()
    assert re.fullmatch(r".*a\.png: \('\w+', \d, \[.*\]\)", first)
    assert "gone.png: missing" in second
    asked = ("predict", tmp_path / "a.png", "--model", "shapes", *store, "--engine")
    by_torch, by_openvino = run(*asked, "torch"), run(*asked, "openvino")
    assert by_torch.stdout.split(",")[:2] == by_openvino.stdout.split(",")[:2]
    assert re.match(r".*a\.png: \('", by_torch.stdout)  # also for a single image
    assert "engine" in run(*asked, "fast").stderr
    listed = run("models", "list", *store).stdout.splitlines()[-1]
    assert re.match(r"shapes@\S+ +latest.* +[\d.]+ +\d+ +test_resnet ", listed)
    shown = run("models", "show", "shapes", "--json", *store)
    assert '"architecture": "test_resnet"' in shown.stdout
