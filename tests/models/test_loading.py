"""A model scores only if its artifact is unchanged and gives its published predictions."""

import json
import shutil

import pytest

from visionflows.errors import ModelError
from visionflows.hashing import sha256_of
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import load_model
from visionflows.storage import open_storage


def test_a_changed_or_cut_weights_file_is_refused(trained, where, tmp_path):
    for change in (lambda data: data[:-10], lambda data: data[:-1] + bytes([data[-1] ^ 1])):
        copy = tmp_path / "bundle"
        shutil.copytree(trained.storage, copy, dirs_exist_ok=True)
        weights = copy / "weights.safetensors"
        weights.write_bytes(change(weights.read_bytes()))
        with pytest.raises(
            ModelError, match=r"weights\.safetensors: changed since it was published"
        ):
            load_model(open_storage(where(copy)))


def test_a_network_with_other_predictions_fails_the_self_check(trained, where, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(trained.storage, copy)
    info = json.loads((copy / "model.json").read_text())
    info["normalise"]["mean"] = [0.9, 0.9, 0.9]
    (copy / "model.json").write_text(json.dumps(info))
    with pytest.raises(ModelError, match="fails its self-check"):
        make_engine(load_model(open_storage(where(copy))), EngineSettings(engine="torch"))
    # model.onnx includes the normalisation; these are the predictions of another network.
    expected = (copy / "selfcheck/expected.csv").read_text().splitlines()
    swapped = [",".join([row.split(",")[0], *row.split(",")[:0:-1]]) for row in expected]
    text = "\n".join([expected[0], *swapped[1:]]).encode()
    (copy / "selfcheck/expected.csv").write_bytes(text)
    info["files"]["selfcheck/expected.csv"] = sha256_of(text)
    (copy / "model.json").write_text(json.dumps(info))
    with pytest.raises(ModelError, match="fails its self-check"):
        make_engine(load_model(open_storage(where(copy))), EngineSettings())
