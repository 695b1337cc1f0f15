"""Which of two models is better, on images that neither has learnt from."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from conftest import Trained

from visionflows.training.compare import compare


def another(trained: Trained, store: Path, version: str, **changes: str) -> str:
    """The trained model again as another version, some of its files' texts replaced."""
    target = store / "models/shapes" / version
    shutil.copytree(trained.place, target)
    info = json.loads((target / "model.json").read_text()) | {"version": version}
    for name, text in changes.items():
        path = target / name.replace("_csv", ".csv")
        path.write_text(text)
        info["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (target / "model.json").write_text(json.dumps(info))
    return f"shapes@{version}"


@pytest.fixture
def files_csv(trained) -> str:
    return (Path(trained.place) / "files.csv").read_text()


def test_a_model_is_not_better_than_itself(trained, where, tmp_path):
    new, old = (another(trained, tmp_path, name) for name in ("2-new", "1-old"))
    found = compare(new, old, trained.dataset, where(tmp_path))
    assert found["images"] == int(trained.table.is_valid.sum()) > 0
    assert found["candidate_errors"] == found["production_errors"]
    assert (found["only_candidate_right"], found["only_production_right"]) == (0, 0)
    assert not found["better"]


def test_a_model_that_is_right_more_often_is_better(trained, where, tmp_path):
    new = another(trained, tmp_path, "2-new")
    # The old one calls every circle stripes, and stripes circles: its classes are swapped.
    old = another(trained, tmp_path, "1-old")
    path = tmp_path / "models/shapes/1-old/model.json"
    info = json.loads(path.read_text())
    info["classes"] = info["classes"][::-1]
    path.write_text(json.dumps(info))
    found = compare(new, old, trained.dataset, where(tmp_path))
    assert found["better"]
    assert found["candidate_errors"] < found["production_errors"]
    assert found["only_candidate_right"] > found["only_production_right"]
    assert f"the same {found['images']} images" in found["why"]


def test_what_production_has_learnt_is_not_asked(trained, files_csv, where, tmp_path):
    new = another(trained, tmp_path, "2-new")
    old = another(trained, tmp_path, "1-old", files_csv=files_csv.replace("True", "False"))
    found = compare(new, old, trained.dataset, where(tmp_path))
    assert (found["images"], found["better"]) == (0, False)
    assert "no validation image" in found["why"]
