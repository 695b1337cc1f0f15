"""Publishing a checkpoint, also after a killed attempt."""

import os
import shutil
import signal
import subprocess
import sys
import time

from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model, new_version
from visionflows.training.checkpoint import PUBLISHING
from visionflows.training.publish import publish_model

PUBLISH = """
import sys
from pathlib import Path
import pandas as pd
from visionflows.models.schema import ModelInfo
from visionflows.training.publish import publish_model
checkpoint, store, info, table = sys.argv[1:]
table = pd.read_csv(table).assign(status="ok")
publish_model(Path(checkpoint), store, ModelInfo.read(Path(info).read_bytes()), table, "")
"""


def evaluated_checkpoint(trained, folder):
    """A checkpoint after evaluate, and its model.json with a new version."""
    checkpoint = folder / "checkpoint"
    shutil.copytree(trained.store.parent / "checkpoint", checkpoint)
    info = load_model(find_model("shapes", trained.store)).info
    return checkpoint, info.model_copy(update={"version": new_version(), "files": {}})


def test_publishing_removes_the_files_of_a_killed_attempt(trained, where, tmp_path):
    checkpoint, info = evaluated_checkpoint(trained, tmp_path)
    (tmp_path / "info.json").write_bytes(info.text())
    trained.table.to_csv(tmp_path / "table.csv")
    with (checkpoint / "selfcheck/large.npy").open("wb") as file:
        file.truncate(64 << 20)  # slow enough to be killed
    models, store = tmp_path / "store/models/shapes", where(tmp_path / "store")
    words = [checkpoint, store, tmp_path / "info.json", tmp_path / "table.csv"]
    process = subprocess.Popen([sys.executable, "-c", PUBLISH, *map(str, words)])
    while not (models / info.version / "files.csv").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (checkpoint / PUBLISHING).read_text() == info.version
    assert not (models / info.version / "model.json").exists()
    (checkpoint / "selfcheck/large.npy").unlink()
    store = where(tmp_path / "store")

    again = info.model_copy(update={"version": new_version()})
    publish_model(checkpoint, store, again, trained.table, "")
    assert sorted(os.listdir(models)) == [again.version, "aliases"]
    assert load_model(find_model("shapes", store)).info.version == again.version


def test_an_earlier_version_of_the_checkpoint_is_kept(trained, tmp_path):
    checkpoint, info = evaluated_checkpoint(trained, tmp_path)
    second = info.model_copy(update={"version": new_version()})
    for version in (info, second):
        publish_model(checkpoint, str(tmp_path / "store"), version, trained.table, "")
    versions = os.listdir(tmp_path / "store/models/shapes")
    assert sorted(versions) == sorted([info.version, second.version, "aliases"])


def test_an_invalid_version_note_removes_nothing(trained, tmp_path):
    checkpoint, info = evaluated_checkpoint(trained, tmp_path)
    (tmp_path / "store/models/shapes").mkdir(parents=True)
    (tmp_path / "store/models/other").mkdir()
    (checkpoint / PUBLISHING).write_text("../other")
    publish_model(checkpoint, str(tmp_path / "store"), info, trained.table, "")
    assert (tmp_path / "store/models/other").is_dir()
