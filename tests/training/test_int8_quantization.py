"""Int8 quantization: images, agreement, errors."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from visionflows.errors import SettingsError
from visionflows.inference import EngineSettings, make_engine
from visionflows.inference.openvino import (
    import_openvino,
    native_kernels,
    openvino_core,
    shared_core,
)
from visionflows.models.artifact import INT8, load_model
from visionflows.models.registry import find_model, publish
from visionflows.storage import open_storage
from visionflows.training.evidence import int8_quantization

needs_nncf = pytest.mark.skipif(
    not (native_kernels()["int8"] and importlib.util.find_spec("nncf")),
    reason="no NNCF, or no int8 of the processor's own",
)


@needs_nncf
def test_an_int8_network_is_published_with_its_agreement(trained, evaluated, checkpoint, tmp_path):
    found = int8_quantization.quantize_int8(evaluated, trained.table, trained.dataset)
    # 54 training images in batches of 16: one calibrates, two control, none counts as evidence.
    assert (found["precision"], found["images"], found["trained_on"]) == ("int8", 24, 6)
    assert found["speed"] > 0
    assert found["kernel"] == native_kernels()["int8"]
    assert found["auto"] == "float32"  # 24 images are too few
    enough = found | {"auto": "int8", "images": 598, "disagreements": 0}
    info = evaluated.info.with_agreement(enough, "int8")
    publish(checkpoint, tmp_path / "store", info, trained.table)
    model = load_model(find_model("shapes", tmp_path / "store"))
    assert set(INT8) <= set(model.info.files)
    fast = make_engine(model, EngineSettings(device="cpu"))
    assert fast.precision == "int8"
    exact = make_engine(model, EngineSettings(device="cpu", precision="float32"))
    names = [entry.name for entry in open_storage(trained.dataset).walk()]
    ours, theirs = (
        engine.predict_files(open_storage(trained.dataset), names) for engine in (fast, exact)
    )
    apart = np.array([np.abs(ours[name] - theirs[name]).max() for name in names])
    assert 0 < apart.max() < 0.3


@needs_nncf
def test_the_head_is_not_quantized(checkpoint):
    network = openvino_core().read_model((checkpoint / "model.onnx").read_bytes())
    head = int8_quantization.head_layers(network)
    matrices = [node for node in network.get_ops() if node.get_type_name() == "MatMul"]
    assert {node.get_friendly_name() for node in matrices} <= set(head)
    assert not any("conv" in name.lower() for name in head)


@needs_nncf
def test_calibration_control_and_agreement_use_different_images(trained):
    model = load_model(find_model("shapes", trained.store))
    images = int8_quantization._TrainingImages(model, trained.table, trained.dataset)
    assert (len(images.calibration), len(images.control), len(images.sha256s)) == (1, 2, 48)
    twice = int8_quantization._TrainingImages(
        model, pd.concat([trained.table] * 2), trained.dataset
    )
    assert twice.sha256s == images.sha256s  # the same bytes under two names count once
    few = trained.table[trained.table.is_valid | (trained.table.index % 4 == 0)]
    assert not int8_quantization._TrainingImages(model, few, trained.dataset).control


@needs_nncf
def test_an_error_is_recorded_and_nothing_incomplete_is_published(
    trained, evaluated, checkpoint, monkeypatch
):
    def fails(*_, **__):
        raise LookupError("no such layer")

    monkeypatch.setattr(int8_quantization, "_quantize", fails)
    (checkpoint / INT8[0]).write_bytes(b"of an earlier try")
    found = int8_quantization.quantize_int8(evaluated, trained.table, trained.dataset)
    assert found == {"auto": "float32", "why": "LookupError: no such layer"}
    assert not any((checkpoint / name).exists() for name in INT8)


@pytest.mark.parametrize("wrong", [{"engine": "torch"}, {"compile": True}])
def test_int8_needs_openvino(trained, wrong):
    model = load_model(find_model("shapes", trained.store))
    settings = EngineSettings(device="cpu", precision="int8", **wrong)
    with pytest.raises(SettingsError, match=r"precision int8 with (engine torch|compile): the"):
        make_engine(model, settings)


def test_int8_without_an_int8_network_is_refused(trained):
    model = load_model(find_model("shapes", trained.store))
    with pytest.raises(SettingsError, match=r"precision int8: the model has no model\.int8\.xml"):
        make_engine(model, EngineSettings(device="cpu", precision="int8"))


@needs_nncf
@pytest.mark.slow
def test_nncf_sends_no_telemetry(tmp_path):
    code = """
import sys
events = []
watched = ("socket.connect", "os.fork", "os.posix_spawn")
sys.addaudithook(lambda event, args: events.append((event, args)) if event in watched else None)
from visionflows.training.evidence.int8_quantization import _nncf
nncf = _nncf()
nncf.telemetry.telemetry.send_event("a", "b", "c")
print(events)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]", "a message, or a process that sends it"
    assert not (tmp_path / "intel").exists()  # where its telemetry would store a user ID


def test_openvino_uses_our_core_inside_the_block():
    openvino = import_openvino()
    with shared_core():
        assert openvino.Core() is openvino_core()
    assert openvino.Core is not openvino_core
