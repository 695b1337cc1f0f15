"""Runs and large files with network and server faults; cached models; no secrets in logs."""

import logging
import os

import pytest
from conftest import write_shapes
from fault_proxy import faulty
from s3_server import SECRET

from visionflows.datasets.fetch import fetch
from visionflows.errors import StorageError
from visionflows.models import artifact, registry
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage.s3.storage import S3Storage


def test_a_loaded_model_is_cached_by_digest_and_copied_again_if_damaged(trained, s3, tmp_path):
    model = artifact.load_model(registry.find_model("shapes", s3.uri(trained.store)))
    weights = tmp_path / "cache/models" / model.digest / "weights.safetensors"
    before = weights.stat().st_ino
    artifact.load_model(model.storage)
    assert weights.stat().st_ino == before
    weights.write_bytes(b"cut")
    with pytest.raises(artifact.ModelError, match="changed since it was published"):
        artifact.load_model(model.storage)
    assert artifact.load_model(model.storage).digest == model.digest


def test_a_missing_archive_in_a_bucket_is_reported(s3, tmp_path):
    with pytest.raises(StorageError, match=r"nowhere\.tgz: no such archive"):
        fetch(s3.uri(tmp_path / "nowhere.tgz"), tmp_path / "store")


@pytest.mark.parametrize("mode", ["standard", "adaptive"])
def test_a_run_under_faults_has_the_same_bytes(trained, s3, tmp_path, monkeypatch, mode):
    folder = write_shapes(tmp_path / "in", each=60, first_seed=7000)
    settings = ScoreSettings(shard_size=20, batch_size=8)
    score_folder(str(folder), "shapes", str(tmp_path / "clean"), trained.store, settings)
    monkeypatch.setenv("VISIONFLOWS_S3_TIMEOUT", "3")
    monkeypatch.setenv("AWS_RETRY_MODE", mode)
    with faulty(s3.url, rate=0.1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        where = s3.uri
        run = score_folder(
            where(folder), "shapes", where(tmp_path / "out"), where(trained.store), settings
        )
    assert run["counts"]["ok"] == 180
    clean = (tmp_path / "clean/predictions.csv").read_bytes()
    assert (tmp_path / "out/predictions.csv").read_bytes() == clean
    made = {fault: count for fault, count in proxy.done.items() if fault != "requests"}
    assert sum(made.values()) > 15, made
    assert len(made) >= 5, made


def test_a_large_file_is_complete_under_faults(bucket, s3, monkeypatch):
    data = os.urandom(20_000_000)
    monkeypatch.setenv("VISIONFLOWS_S3_TIMEOUT", "1")
    monkeypatch.setattr("visionflows.storage.s3.objects.PART", 1 << 20)
    monkeypatch.setattr("visionflows.storage.s3.objects.CHUNK", 1 << 20)
    # No flipped bytes: rclone, unlike other servers, does not accept a part twice.
    faults = ("500", "503", "reset", "cut", "stall")
    with faulty(s3.url, rate=0.1, faults=faults) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        with bucket.open_write("large") as file:
            file.write(data)
        with bucket.open_read("large") as file:
            assert file.read() == data
    assert sum(proxy.done[fault] for fault in faults) >= 2


def test_no_secret_is_logged_or_written(trained, s3, tmp_path, caplog):
    folder = write_shapes(tmp_path / "in", each=2)
    with caplog.at_level(logging.DEBUG):
        where = s3.uri
        score_folder(where(folder), "shapes", where(tmp_path / "out"), where(trained.store))
    assert "visionflows" in caplog.text
    assert SECRET not in caplog.text
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert SECRET.encode() not in file.read_bytes(), file
    assert SECRET not in repr(vars(S3Storage.parse(where(folder))))
