"""What a bundle says of its validation: how often each label was given, and how sure it was."""

import csv
import dataclasses
import shutil

import pytest
from versions import another, changed

from visionflows.models.artifact import load
from visionflows.models.registry import find
from visionflows.monitoring.validation_baseline import on_validation

CSV = "path,label,predicted,confidence\r\na.png,circle,circle,0.99\r\nb.png,square,circle,1.0\r\n"


def before(trained, store) -> str:
    """The model as it was published before bundles had validation.csv."""
    model = another(trained, store, "1")
    files = load(find(model, store)).info.files
    del files["validation.csv"]
    changed(store, "1", files=files)
    return model


def test_a_bundle_says_what_was_predicted_how_often(trained, tmp_path):
    told = on_validation(load(find(before(trained, tmp_path), tmp_path)))
    with open(f"{trained.storage}/confusion.csv", encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    for name in {row["predicted"] for row in rows}:
        count = sum(int(row["images"]) for row in rows if row["predicted"] == name)
        assert told.labels[name] == count
    assert told.ok == 18
    assert told.confidence == {}


def test_validation_csv_says_how_sure_it_was_too(trained, tmp_path):
    model = another(trained, tmp_path, "1", validation_csv=CSV)
    told = on_validation(load(find(model, tmp_path)))
    assert told.labels == {"circle": 2}
    assert told.confidence == {"19": 2}


@pytest.mark.parametrize("text", [CSV.replace("0.99", "much"), CSV.replace("predicted", "said")])
def test_one_that_is_not_what_it_should_be_is_told_and_counts_as_none(
    trained, tmp_path, text, caplog
):
    model = another(trained, tmp_path, "1", validation_csv=text)
    assert on_validation(load(find(model, tmp_path))) is None
    assert "does not say what it answered on validation" in caplog.text


def test_a_store_that_goes_away_while_a_run_is_on_costs_it_nothing(trained, s3, tmp_path):
    model = another(trained, tmp_path / "store", "1", validation_csv=CSV)
    found = load(find(model, s3.uri(tmp_path / "store")))
    shutil.rmtree(tmp_path / "store")
    assert on_validation(found).labels == {"circle": 2}
    without = found.info.model_copy(update={"files": {"confusion.csv": "0" * 64}})
    assert on_validation(dataclasses.replace(found, info=without)) is None


def test_raw_answers_are_held_against_raw_ones(trained, tmp_path):
    told = CSV.replace("confidence", "confidence,raw").replace("0.99", "0.99,0.5")
    model = another(trained, tmp_path, "1", validation_csv=told.replace("1.0", "1.0,0.6"))
    found = on_validation(load(find(model, tmp_path)), raw=True)
    assert found.confidence == {"10": 1, "12": 1}


def test_a_bundle_of_before_has_the_matrix_in_its_model_json(trained, tmp_path):
    model = before(trained, tmp_path)
    info = load(find(model, tmp_path)).info
    metrics = info.as_dict()["metrics"] | {"confusion": [[3, 1, 0], [0, 4, 0], [0, 2, 2]]}
    files = {name: sha for name, sha in info.files.items() if name != "confusion.csv"}
    changed(tmp_path, "1", metrics=metrics, files=files)
    told = on_validation(load(find(model, tmp_path)))
    assert told.labels == {"circle": 3, "square": 7, "stripes": 2}
