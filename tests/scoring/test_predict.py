"""Predict a few images by path or URI: one row each, in order."""

import pytest
from conftest import shape

from visionflows.errors import StorageError
from visionflows.inference import open_engine
from visionflows.inference.engine import EngineSettings
from visionflows.scoring.predict import predict
from visionflows.storage import open_storage


def test_images_on_a_disk_and_in_a_bucket_are_predicted_in_order(trained, s3, tmp_path):
    for name, kind in (("a.png", "square"), ("b.png", "stripes")):
        shape(kind, 7).save(tmp_path / name)
    here, there = str(tmp_path / "a.png"), s3.uri(tmp_path / "b.png")
    gone = s3.uri(tmp_path / "gone.png")
    engine = open_engine("shapes", trained.store, EngineSettings(batch_size=1, workers=1))
    rows = list(predict([there, gone, here], engine))
    assert [row.path for row in rows] == [there, gone, here]
    assert [row.status for row in rows] == ["ok", "missing", "ok"]
    assert rows[1].error == "no such file"
    first, second = ([*row.probabilities.values()] for row in (rows[0], rows[2]))
    assert first != second
    again = list(predict([str(tmp_path / "b.png"), here], engine))
    assert [[*row.probabilities.values()] for row in again] == [first, second]
    with pytest.raises(StorageError, match="s3://nowhere-at-all: no such bucket"):
        list(predict(["s3://nowhere-at-all/a.png"], engine))


def test_a_row_has_the_path_as_given(tmp_path, monkeypatch):
    from visionflows.storage import split_location

    monkeypatch.chdir(tmp_path)
    open_storage(".").write("a/b.png", b"x")
    for where in ("a/b.png", "./a/b.png", f"file://{tmp_path}/a/b.png", str(tmp_path / "a/b.png")):
        here, name = split_location(where)
        assert here.read(name) == b"x"
    for key in ("k.png", "a/k.png", "a//k.png"):
        here, name = split_location(f"s3://lab/{key}")
        assert here.prefix + name == key
