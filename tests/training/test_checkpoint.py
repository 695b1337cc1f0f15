"""Checkpoints: resuming, incomplete ones, locking, removal."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from conftest import SMALL

from visionflows.storage.local import LocalStorage
from visionflows.training import checkpoint as checkpoint_module
from visionflows.training.checkpoint import (
    checkpoint_key,
    open_checkpoint,
    read_record,
    resume_or_fine_tune,
    snapshots_location,
)
from visionflows.training.settings import TrainSettings

KEY, OTHER = "0" * 31 + "1", "0" * 31 + "2"
TABLE = pd.DataFrame(
    {"path": ["a", "b"], "label": ["x", "y"], "is_valid": [True, False], "sha256": ["1", "2"]}
).assign(status="ok", group="")
SETTINGS = TrainSettings(**SMALL)


@pytest.fixture
def saved(trained, tmp_path):
    """The checkpoints folder of a store, with one checkpoint of a run killed after fine-tuning."""
    folder = tmp_path / "store/.checkpoints" / KEY
    folder.mkdir(parents=True)
    for name in ("weights.safetensors", "training.json"):
        (folder / name).write_bytes((trained.store.parent / "checkpoint" / name).read_bytes())
    return folder.parent


def left(folder) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name != ".lock")


def test_a_complete_checkpoint_is_resumed_and_logged(trained, saved, tmp_path, caplog):
    caplog.set_level("INFO", "visionflows")
    (saved / KEY / "pictures").mkdir()
    (saved / KEY / "export.pkl").write_bytes(b"of a run that wanted one")
    with open_checkpoint(tmp_path / "store", KEY) as checkpoint:
        record = resume_or_fine_tune(trained.table, trained.dataset, checkpoint, SETTINGS)
        assert left(checkpoint) == ["training.json", "weights.safetensors"]
    assert record == trained.record
    assert "resuming from the checkpoint of an earlier run" in caplog.text
    assert left(saved) == []  # it was published


@pytest.mark.parametrize("torn", ["weights", "half", "empty", "list", "keys", "gone", "nothing"])
def test_an_incomplete_checkpoint_has_no_record(trained, saved, torn):
    record, weights = saved / KEY / "training.json", saved / KEY / "weights.safetensors"
    text = record.read_text()
    assert read_record(saved / KEY) == trained.record
    if torn == "weights":
        weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    elif torn == "gone":
        weights.unlink()
    elif torn == "nothing":
        record.unlink()
    else:
        without = {key: value for key, value in json.loads(text).items() if key != "weights_sha256"}
        texts = {"half": text[:200], "empty": "", "list": "[]", "keys": json.dumps(without)}
        record.write_text(texts[torn])
    assert read_record(saved / KEY) is None


def test_an_incomplete_checkpoint_is_trained_again(trained, saved, tmp_path):
    (saved / KEY / "weights.safetensors").write_bytes(b"")
    settings = SETTINGS.model_copy(update={"epochs": 1})
    with open_checkpoint(tmp_path / "store", KEY) as checkpoint:
        record = resume_or_fine_tune(trained.table, trained.dataset, checkpoint, settings)
        assert len(record["history"]) == 1
        assert read_record(checkpoint) == record  # to the last digit, through JSON


def test_a_failure_keeps_a_checkpoint_only_after_fine_tuning(saved, tmp_path):
    with pytest.raises(OSError, match="disk"), open_checkpoint(tmp_path / "store", KEY):
        raise OSError("disk")
    assert KEY in left(saved)
    with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path / "store", OTHER):
        raise KeyboardInterrupt
    assert [name for name in left(saved) if name.startswith(OTHER)] == []


def test_abandoned_checkpoints_are_removed(saved, tmp_path):
    (saved / OTHER).mkdir()  # killed while its weights were written
    (saved / OTHER / "weights.safetensors").write_bytes(b"half")
    (saved / f"{'0' * 31}3.lock").touch()  # killed while it trained
    (saved / "mine.txt").touch()
    with open_checkpoint(tmp_path / "store", "0" * 31 + "4"):
        assert left(saved) == [KEY, "0" * 31 + "4.lock", "mine.txt"]
    eight_days_ago = time.time() - 8 * 24 * 3600
    os.utime(saved / KEY / "training.json", (eight_days_ago, eight_days_ago))
    with open_checkpoint(tmp_path / "store", OTHER):
        pass
    assert left(saved) == ["mine.txt"]


def test_a_locked_checkpoint_is_never_removed(saved, tmp_path):
    eight_days_ago = time.time() - 8 * 24 * 3600
    os.utime(saved / KEY / "training.json", (eight_days_ago, eight_days_ago))
    holder = another_run(tmp_path / "store", "import time; time.sleep(600)")
    with open_checkpoint(tmp_path / "store", OTHER):
        assert KEY in left(saved)  # eight days old, but its own run resumes it
        assert f"{KEY}.lock" in left(saved)
    holder.kill()
    holder.wait()


def another_run(store, does: str) -> subprocess.Popen:
    """A process that holds this checkpoint; returns once it does."""
    code = (
        "from visionflows.training.checkpoint import open_checkpoint\n"
        f"with open_checkpoint({str(store)!r}, {KEY!r}) as checkpoint:\n"
        f"    print('held', flush=True)\n    {does}\n    print('done', flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_run_of_the_same_training_waits(tmp_path, caplog, killed):
    caplog.set_level("INFO", "visionflows")
    does = "import time; checkpoint.mkdir(); time.sleep(2); (checkpoint / 'training.json').touch()"
    other = another_run(tmp_path / "store", "import time; time.sleep(600)" if killed else does)
    began = time.monotonic()
    if killed:
        other.send_signal(signal.SIGKILL)
    with open_checkpoint(tmp_path / "store", KEY) as checkpoint:
        assert killed or time.monotonic() - began > 1
        assert not checkpoint.exists()  # published by the other run, or never started
        assert other.wait() == (-signal.SIGKILL if killed else 0)
    assert killed or "waiting for it to end" in caplog.text
    assert left(tmp_path / "store/.checkpoints") == []


def test_of_a_store_in_a_bucket_only_snapshots_are_in_the_bucket(bucket, tmp_path):
    snapshots = tmp_path / ".checkpoints"
    for key in (KEY, OTHER, "mine"):
        (snapshots / key).mkdir(parents=True)
        (snapshots / key / "final.snapshot").write_bytes(b"0")
    eight_days_ago = time.time() - 8 * 24 * 3600
    os.utime(snapshots / OTHER / "final.snapshot", (eight_days_ago, eight_days_ago))
    with open_checkpoint(str(bucket), KEY) as checkpoint:
        assert checkpoint == tmp_path / "cache/.checkpoints" / KEY
        assert snapshots_location(str(bucket), checkpoint) == f"{bucket}/.checkpoints/{KEY}"
        assert bucket.names(".checkpoints") == [KEY, "mine"]
    assert bucket.names(".checkpoints") == ["mine"]


def test_a_stopped_training_keeps_the_snapshots_of_its_epochs(tmp_path):
    snapshot = tmp_path / ".checkpoints" / KEY / "final.snapshot"
    with contextlib.suppress(KeyboardInterrupt), open_checkpoint(tmp_path, KEY):
        LocalStorage(snapshot.parent).write(snapshot.name, b"0")
        raise KeyboardInterrupt
    assert left(tmp_path / ".checkpoints") == [KEY]


def test_different_trainings_have_different_keys(tmp_path, monkeypatch):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"1")
    weights_file = SETTINGS.model_copy(update={"pretrained": str(weights)})
    other = TABLE.assign(label=["x", "z"])
    keys = {
        checkpoint_key(TABLE, SETTINGS, "folder", 0.2),
        checkpoint_key(other, SETTINGS, "folder", 0.2),
        checkpoint_key(TABLE.assign(is_valid=[False, True]), SETTINGS, "folder", 0.2),
        checkpoint_key(TABLE, SETTINGS.model_copy(update={"seed": 1}), "folder", 0.2),
        checkpoint_key(TABLE, SETTINGS, "uppercase", 0.2),
        checkpoint_key(TABLE, SETTINGS, "folder", 0.25),
        checkpoint_key(TABLE, weights_file, "folder", 0.2),
    }
    assert checkpoint_key(TABLE.sort_index(ascending=False), SETTINGS, "folder", 0.2) in keys
    weights.write_bytes(b"2")  # the same name, other pretrained weights
    keys.add(checkpoint_key(TABLE, weights_file, "folder", 0.2))
    monkeypatch.setattr(checkpoint_module, "library_versions", lambda: {"torch": "another"})
    keys.add(checkpoint_key(TABLE, SETTINGS, "folder", 0.2))
    assert len(keys) == 9


def test_a_nan_loss_survives_json(saved):
    path = saved / KEY / "training.json"
    record = json.loads(path.read_text())
    record["history"][0]["train_loss"] = math.nan
    path.write_text(json.dumps(record))
    assert math.isnan(read_record(saved / KEY)["history"][0]["train_loss"])
