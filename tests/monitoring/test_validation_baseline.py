"""The validation baseline: labels and confidence of the validation images."""

import shutil

import pytest
from versions import another

from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.monitoring.drift import read_validation_baseline

CSV = "path,label,predicted,confidence\r\na.png,circle,circle,0.99\r\nb.png,square,circle,1.0\r\n"


def test_labels_and_confidence_are_counted(trained, tmp_path):
    model = another(trained, tmp_path, "1", validation_csv=CSV)
    baseline = read_validation_baseline(load_model(find_model(model, tmp_path)))
    assert baseline.labels == {"circle": 2}
    assert baseline.confidence == {"19": 2}


@pytest.mark.parametrize("text", [CSV.replace("0.99", "much"), CSV.replace("predicted", "said")])
def test_an_unreadable_file_is_logged_and_gives_no_baseline(trained, tmp_path, text, caplog):
    model = another(trained, tmp_path, "1", validation_csv=text)
    assert read_validation_baseline(load_model(find_model(model, tmp_path))) is None
    assert "its validation predictions cannot be read" in caplog.text


def test_a_store_that_disappears_during_a_run_does_not_matter(trained, s3, tmp_path):
    model = another(trained, tmp_path / "store", "1", validation_csv=CSV)
    found = load_model(find_model(model, s3.uri(tmp_path / "store")))
    shutil.rmtree(tmp_path / "store")
    assert read_validation_baseline(found).labels == {"circle": 2}


def test_raw_confidence_is_compared_with_raw_confidence(trained, tmp_path):
    text = CSV.replace("confidence", "confidence,raw").replace("0.99", "0.99,0.5")
    model = another(trained, tmp_path, "1", validation_csv=text.replace("1.0", "1.0,0.6"))
    found = read_validation_baseline(load_model(find_model(model, tmp_path)), raw=True)
    assert found.confidence == {"10": 1, "12": 1}
