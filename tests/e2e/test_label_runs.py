"""Runs of several labels give the same bytes: killed and resumed, retried, and on two Ray nodes."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from several_labels import write_pairs

import visionflows as vf

pytest.importorskip("ray", reason="ray is not installed")
pytest_plugins = ["ray_cluster", "several_labels"]
pytestmark = pytest.mark.timeout(600)
OPTIONS = {"batch_size": 1, "workers": 1, "shard_size": 8, "engine": "torch"}
WORDS = [
    word for key, value in OPTIONS.items() for word in (f"--{key.replace('_', '-')}", str(value))
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """320 photos of shapes, and a file that is none."""
    folder = write_pairs(tmp_path_factory.mktemp("label_runs") / "in", each=20, first_seed=700)
    (folder / "images/broken.png").write_bytes(b"nothing")
    return folder / "images"


@pytest.fixture(scope="module")
def whole(photos, pairs_model) -> bytes:
    """The result of a run that nothing disturbs."""
    output = photos.parent.with_name("whole")
    vf.score(photos, "pairs", output, store=pairs_model.store, spreadsheet=True, **OPTIONS)
    data = (output / "predictions.csv").read_bytes()
    with (output / "spreadsheet.csv").open(encoding="utf-8-sig", newline="") as file:
        shown = [row["label"] for row in csv.DictReader(file)]
    assert shown == [row["label"] for row in csv.DictReader(data.decode().splitlines())]
    assert any(";" in label for label in shown)
    return data


def command(source: object, output: object, store: object, *more: str) -> list[str]:
    words = [sys.executable, "-m", "visionflows.cli", "score", str(source), "--model", "pairs"]
    return [*words, "--store", str(store), "--output", str(output), *WORDS, *more]


def test_a_killed_run_resumes_to_the_same_bytes(photos, whole, pairs_model, tmp_path):
    words = command(photos, tmp_path / "out", pairs_model.store)
    killed = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while killed.poll() is None and len([*tmp_path.glob("out/parts/part-*.json")]) < 5:
        time.sleep(0.005)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "out/predictions.csv").exists()
    done = vf.score(photos, "pairs", tmp_path / "out", store=pairs_model.store, **OPTIONS)
    assert done.run.timings.scored < 321
    assert (tmp_path / "out/predictions.csv").read_bytes() == whole
    again = vf.score(
        *(photos, "pairs", tmp_path / "out"), store=pairs_model.store, retry_failed=True, **OPTIONS
    )
    assert again.counts.failed == 1
    assert (tmp_path / "out/predictions.csv").read_bytes() == whole


def test_two_nodes_and_a_bucket_give_the_bytes_of_one_machine(
    cluster, photos, whole, pairs_model, s3, tmp_path
):
    places = s3.uri(photos), s3.uri(tmp_path / "out"), s3.uri(Path(pairs_model.store))
    words = command(*places, "--on", cluster.address)
    environment = cluster.environment | os.environ
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert "Ray: 2 actors on 2 nodes" in done.stderr
    assert (tmp_path / "out/predictions.csv").read_bytes() == whole
