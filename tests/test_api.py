"""The names that a notebook finds in `visionflows`: light to import, typed, and working."""

import ast
import importlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSES, LEARNING, SMALL, write_shapes

import visionflows as vf
from visionflows.errors import ModelError, SettingsError

ROOT = Path(__file__).parents[1]
SCORING = {"device": "cpu", "precision": "float32", "workers": 1}


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    """A configured Prefect server that is unavailable: the API needs none."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")


def test_a_name_is_an_attribute_of_its_module():
    tree = ast.parse((ROOT / "visionflows/__init__.py").read_text())
    typed = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }
    assert sorted(typed) == vf.__all__ == dir(vf)
    for name, module in typed.items():
        assert getattr(vf, name) is getattr(importlib.import_module(module), name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'visionflows' has no attribute 'fetched'"):
        vf.fetched  # noqa: B018


@pytest.mark.parametrize("file", ["docs/tutorial.md", "visionflows/__init__.py"])
def test_documents_name_existing_functions(file):
    named = set(re.findall(r"\bvf\.(\w+)", (ROOT / file).read_text()))
    assert named
    assert named <= set(vf.__all__)


def test_steps_of_a_training_take_text_and_paths(tmp_path):
    folder = write_shapes(tmp_path / "shapes", each=4)
    dataset = vf.fetch(folder, str(tmp_path / "store"))
    table = vf.build_table(str(dataset.folder), "folder", valid_pct=0.5)
    settings = vf.TrainSettings(**SMALL)
    checkpoint = str(tmp_path / "checkpoint")
    record = vf.fine_tune(table, str(dataset.folder), checkpoint, settings)
    assert record["classes"] == list(CLASSES)
    assert (tmp_path / "checkpoint/weights.safetensors").exists()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("api")
    folder = write_shapes(root / "shapes", each=12)
    settings = vf.TrainSettings(**SMALL | LEARNING | {"epochs": 10})
    options = {"settings": settings, "valid_pct": 0.25, "group": r"regex:(\d)\.png"}
    return vf.train(folder, "shapes", store=root / "store", **options)


def test_train_publishes_a_model_with_its_learner(model):
    assert model.name == "shapes"
    assert model.location == f"{model.store}/models/shapes/{model.version}"
    assert Path(model.report).is_file()
    assert vf.load_model(vf.find_model("shapes", model.store)).info.version == model.version
    assert model.info.split.group == r"regex:(\d)\.png"
    files = pd.read_csv(f"{model.location}/files.csv", dtype={"group": str})
    assert files.groupby("group").is_valid.nunique().tolist() == [1] * 10
    assert list(model.learner.dls.vocab) == list(CLASSES)
    assert len(model.learner.dls.valid_ds) == model.info.dataset.valid
    with model.learner.no_bar(), model.learner.no_logging():
        _, error_rate, accuracy, *_ = model.learner.validate()
    assert error_rate == pytest.approx(model.metrics.error_rate, abs=1e-6)
    assert accuracy == pytest.approx(model.metrics.accuracy, abs=1e-6)


def test_options_override_settings_and_are_checked_before_any_work(tmp_path):
    with pytest.raises(SettingsError, match=r"^epochs three: input should be a valid integer"):
        vf.train("nowhere", "shapes", store=tmp_path / "store", epochs="three")
    with pytest.raises(SettingsError, match=r"^presicion float32: extra inputs are not permitted"):
        vf.score(tmp_path, "shapes", store=tmp_path / "store", presicion="float32")
    with pytest.raises(SettingsError, match="valid_pct 2"):
        vf.train("nowhere", "shapes", store=tmp_path / "store", valid_pct=2)
    with pytest.raises(ModelError, match="no such model"):
        vf.predict("cat.jpg", "shapes", store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_score_returns_rows_and_counts(tmp_path, trained):
    inbox = write_shapes(tmp_path / "inbox", each=1, first_seed=500)
    (inbox / "broken.png").write_bytes(b"no picture")
    settings = vf.ScoreSettings(**SCORING, max_error_rate=1)
    output = tmp_path / "scores"
    result = vf.score(inbox, "shapes", output, store=trained.store, settings=settings, top=1)
    assert result.output == str(output)
    assert Path(result.report).is_file()
    assert (result.counts.found, result.counts.ok, result.counts.failed) == (4, 3, 1)
    ok = result.rows[result.rows.status == "ok"]
    assert ok.path.tolist() == [f"{kind}/0500.png" for kind in CLASSES]
    probabilities = ok[[f"p_{kind}" for kind in CLASSES]]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(probabilities.max(axis=1), ok.confidence)
    assert (ok.label == ok.top_1).all()
    (failed,) = result.rows[result.rows.status != "ok"].itertuples()
    assert (failed.path, failed.label) == ("broken.png", "")
    assert failed.error
    assert pd.isna(failed.confidence)


def test_score_writes_into_a_new_folder_of_the_store(tmp_path, trained, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inbox = write_shapes(tmp_path / "inbox", each=1, first_seed=500)
    model = vf.find_model("shapes", trained.store)
    result = vf.score("inbox", str(model), store="store", **SCORING)
    assert result.output.startswith("store/scores/")
    assert len(result.rows) == len([*inbox.rglob("*.png")])


def test_predict_gives_label_and_confidence(tmp_path, trained):
    inbox = write_shapes(tmp_path / "inbox", each=1, first_seed=500)
    (inbox / "broken.png").write_bytes(b"no picture")
    image = inbox / "circle/0500.png"
    good, broken = vf.predict([image, str(inbox / "broken.png")], "shapes", store=trained.store)
    assert good.path == str(image)
    assert good.label in CLASSES
    assert good.confidence == good.probabilities[good.label] == max(good.probabilities.values())
    assert sum(good.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert (broken.status, broken.label, broken.confidence) == ("unreadable", "", None)
    assert broken.error
    engine = vf.make_engine(
        vf.load_model(vf.find_model("shapes", trained.store)),
        vf.ScoreSettings(**SCORING, batch_size=1),
    )
    assert vf.predict(str(image), engine)[0].label == good.label


def test_evaluate_returns_the_metrics_and_counts(tmp_path, trained):
    labelled = write_shapes(tmp_path / "labelled", each=2, first_seed=500)
    result = vf.evaluate("shapes", labelled, output=tmp_path / "out", store=trained.store)
    assert result.counts == {"ok": 6}
    assert result.metrics.accuracy == 1 - result.metrics.error_rate
    assert (tmp_path / "out/evaluation.json").exists()
