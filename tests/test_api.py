"""The names that a notebook finds in `visionflows`: they are there, light, typed, and they work."""

import ast
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, write_shapes

import visionflows as vf

ROOT = Path(__file__).parents[1]


def test_a_name_is_what_its_home_has():
    tree = ast.parse((ROOT / "visionflows/__init__.py").read_text())
    typed = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }
    assert sorted(typed) == vf.__all__ == dir(vf)
    for name, home in typed.items():
        assert getattr(vf, name) is getattr(importlib.import_module(home), name)


def test_another_name_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'visionflows' has no attribute 'fetched'"):
        vf.fetched  # noqa: B018


@pytest.mark.parametrize("file", ["README.md", "visionflows/__init__.py"])
def test_what_the_documents_name_is_there(file):
    named = set(re.findall(r"\bvf\.(\w+)", (ROOT / file).read_text()))
    assert named
    assert named <= set(vf.__all__)


def test_a_notebook_trains_with_them(tmp_path):
    folder = write_shapes(tmp_path / "shapes", each=4)
    dataset = vf.fetch(str(folder), tmp_path / "store")
    table = vf.build_table(dataset.folder, "folder", valid_pct=0.5)
    settings = vf.TrainSettings(
        architecture="resnet18", pretrained="none", image_size=32, batch_size=6, workers=0
    )
    record = vf.fine_tune(table, dataset.folder, tmp_path / "draft", settings)
    assert record["classes"] == list(CLASSES)
    assert (tmp_path / "draft/weights.safetensors").exists()


def test_a_notebook_scores_with_them(tmp_path, trained):
    inbox = write_shapes(tmp_path / "inbox", each=1, first_seed=500)
    model = vf.load(vf.find("shapes", trained.store))
    settings = vf.ScoreSettings(device="cpu", precision="float32", workers=1)
    engine = vf.make_engine(model, settings)
    (row,) = vf.predict([str(inbox / "circle/0500.png")], engine)
    assert row.status == "ok"
    np.testing.assert_allclose(row.probabilities.sum(), 1, rtol=1e-5)
    vf.score_folder(str(inbox), "shapes", str(tmp_path / "scores"), trained.store, settings)
    lines = vf.open_storage(tmp_path / "scores").read("predictions.csv").decode().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [f"{kind}/0500.png" for kind in CLASSES]
