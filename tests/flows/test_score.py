"""The score flow without a Prefect server: results, and how it fails."""

import csv
import logging
import shutil

import pytest
from conftest import write_shapes

from flows.score import score
from visionflows.errors import LockedError, ModelError, TooManyBadError
from visionflows.storage import open_storage


def test_an_empty_folder_gives_a_header_and_a_report(trained, tmp_path):
    (tmp_path / "in").mkdir()
    run = score(str(tmp_path / "in"), "shapes", str(tmp_path / "out"), str(trained.store))
    assert run["counts"]["found"] == 0
    assert "Nothing to score" in (tmp_path / "out/report.html").read_text()
    with (tmp_path / "out/predictions.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 1


def test_too_many_failed_files_fail_the_run_with_a_complete_csv(trained, tmp_path):
    folder = write_shapes(tmp_path / "in", each=7)
    for number in range(5):
        (folder / f"{number}.jpg").write_bytes(b"")
    with pytest.raises(TooManyBadError, match="5 of 26"):
        score(str(folder), "shapes", str(tmp_path / "out"), str(trained.store))
    assert "This run failed" in (tmp_path / "out/report.html").read_text()
    assert len((tmp_path / "out/predictions.csv").read_bytes().splitlines()) == 27


def test_a_missing_or_damaged_model_fails_before_any_work(trained, tmp_path):
    folder = write_shapes(tmp_path / "in", each=1)
    with pytest.raises(ModelError, match=r"cats: no such model in .*; there is shapes"):
        score(str(folder), "cats", str(tmp_path / "out"), str(trained.store))
    cut = tmp_path / "cut"
    shutil.copytree(trained.storage, cut)
    weights = cut / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ModelError, match=r"weights\.safetensors: changed since it was published"):
        score(str(folder), str(cut), str(tmp_path / "out"), str(trained.store))
    assert not (tmp_path / "out").exists()


def test_a_locked_output_fails_before_loading_the_model(trained, tmp_path, caplog):
    folder = write_shapes(tmp_path / "in", each=1)
    with (
        open_storage(tmp_path / "out").lock(".lock"),
        caplog.at_level(logging.INFO),
        pytest.raises(LockedError, match="another run is writing here"),
    ):
        score(str(folder), "shapes", str(tmp_path / "out"), str(trained.store))
    assert " on cpu: " not in caplog.text
    with caplog.at_level(logging.INFO):
        score(str(folder), "shapes", str(tmp_path / "out"), str(trained.store))
    assert " on cpu: " in caplog.text  # what says that there is a network now
