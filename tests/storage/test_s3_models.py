"""Cached models, missing archives, and no secrets in logs."""

import logging

import pytest
from conftest import write_shapes
from s3_server import SECRET

from visionflows.datasets.fetch import fetch
from visionflows.errors import StorageError
from visionflows.models import artifact, registry
from visionflows.scoring.local_run import score_folder
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
