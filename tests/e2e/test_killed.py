"""Trainings and scoring runs that are killed at any moment and resumed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_shapes
from prefect.settings import PREFECT_API_URL

from flows.train import train
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.models.schema import ModelInfo
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import open_storage
from visionflows.storage.s3.client import call
from visionflows.training.settings import TrainSettings

TINY = TrainSettings(
    architecture="resnet18", pretrained="none", image_size=32, epochs=1, lr=3e-3, batch_size=16
)


def run_script(name: str, *arguments: str) -> list:
    """Run a script of this folder in a process of its own; the JSON of its last line."""
    command = [sys.executable, str(Path(__file__).with_name(name)), *arguments]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=root)
    return json.loads(done.stdout.splitlines()[-1])


def test_runs_killed_at_random_moments_resume_to_the_same_bytes(trained, where, tmp_path):
    rounds = int(os.environ.get("VISIONFLOWS_TEST_KILLS") or (20 if where is str else 2))
    folder = write_shapes(tmp_path / "in", each=40, first_seed=3000)
    settings = ScoreSettings(shard_size=8, batch_size=4)
    score_folder(str(folder), "shapes", str(tmp_path / "whole"), trained.store, settings)
    expected = (tmp_path / "whole/predictions.csv").read_bytes()
    locations = (where(folder), where(tmp_path / "outputs"), where(trained.store))
    kept = run_script("kill_and_resume.py", *locations, settings.model_dump_json(), str(rounds))
    assert len(kept) == rounds
    assert unfinished_uploads(where(tmp_path)) == []
    for output in (tmp_path / "outputs").iterdir():
        assert (output / "predictions.csv").read_bytes() == expected
        assert json.loads((output / "run.json").read_text())["counts"]["found"] == 120
    # The kills were in the middle of the work: there were finished shards.
    assert sum(0 < shards_kept < 15 for shards_kept in kept) >= rounds // 7


@pytest.mark.timeout(1200)
def test_a_training_killed_at_random_moments_loses_at_most_an_epoch(where, tmp_path):
    rounds = int(os.environ.get("VISIONFLOWS_TEST_KILLS") or 2)
    dataset = write_shapes(tmp_path / "in", each=40)
    settings = TINY.model_copy(update={"architecture": "test_resnet", "epochs": 5})
    locations = (str(dataset), where(tmp_path / "stores"))
    runs = run_script("kill_training.py", *locations, settings.model_dump_json(), str(rounds))
    assert len(runs) == rounds
    for ended, trained_again in runs:
        assert trained_again <= 5 - max(ended - 1, 0)
    # The kills were in the middle of the work.
    assert any(ended > 0 and trained_again < 5 for ended, trained_again in runs)
    assert unfinished_uploads(where(tmp_path)) == []
    stores = tmp_path / "stores"
    whole = load_model(find_model("shapes", str(stores / "whole"))).info
    for number in range(rounds):
        assert not list(stores.glob(f"{number}/.checkpoints/*/*"))
        info = load_model(find_model("shapes", str(stores / str(number)))).info
        assert info.files["weights.safetensors"] == whole.files["weights.safetensors"]
        assert info.metrics.model_dump() == whole.metrics.model_dump()


def unfinished_uploads(where: str) -> list[dict]:
    storage = open_storage(where)
    if storage.is_local:
        return []
    try:
        return call("list_multipart_uploads", storage.bucket, Prefix="").get("Uploads", [])
    except FileNotFoundError:  # rclone: not found, if there is none
        return []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, prefect_server) -> tuple[Path, ModelInfo]:
    """A folder of shapes, and the result of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shapes, store = write_shapes(folder / "shapes", each=8), str(folder / "store")
    train(str(shapes), "shapes", settings=TINY, store=store)
    return shapes, load_model(find_model("shapes", store)).info


@pytest.mark.timeout(900)  # complete trainings, each in a process that imports fastai
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_killed_after_fine_tuning_resumes_from_there(tmp_path, undisturbed, kind):
    shapes, whole = undisturbed
    store = tmp_path / "store"
    chosen = ["--arch", "resnet18", "--pretrained", "none", "--image-size", "32", "--epochs", "1"]
    chosen += ["--lr", "0.003", "--batch-size", "16", "--store", str(store)]
    command = [sys.executable, "-m", "visionflows.cli", "train", str(shapes)]
    command += ["--name", "shapes", *chosen]
    environment = os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value()}
    # A TERM during a fork takes effect seconds later, when so small a model may be published.
    for _ in range(5):
        shutil.rmtree(store, ignore_errors=True)
        with (tmp_path / "killed.log").open("w") as log:
            killed = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while not list(store.glob(".checkpoints/*/training.json")):
            assert killed.poll() is None, (tmp_path / "killed.log").read_text()
            time.sleep(0.01)
        time.sleep(random.uniform(0, 1))  # during evaluate
        killed.send_signal(kind)
        assert killed.wait() in (-signal.SIGKILL, 128 + signal.SIGTERM)
        if not list(store.glob("models/shapes/*/model.json")):
            break
    assert not list(store.glob("models/shapes/*/model.json"))
    assert len(list(store.glob(".checkpoints/*/training.json"))) == 1
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "resuming from the checkpoint of an earlier run" in again.stderr
    assert os.listdir(store / ".checkpoints") == []
    resumed = load_model(find_model("shapes", str(store))).info
    assert resumed.metrics.model_dump() == whole.metrics.model_dump()
    assert resumed.files["weights.safetensors"] == whole.files["weights.safetensors"]
