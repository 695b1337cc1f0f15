"""model.onnx: fastai's probabilities in other runtimes, and failed exports."""

import contextlib
import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from model_infos import model_info
from scored_runs import fastai_probabilities
from torch import nn

from visionflows.errors import SettingsError
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import load_model
from visionflows.models.network import build, split_pooling
from visionflows.models.registry import find_model
from visionflows.models.schema import ModelInfo
from visionflows.training.evidence.onnx_export import export_onnx
from visionflows.training.onnx_graph import OUTPUTS, NotExportable, onnx_bytes, with_head

DOCUMENT = Path(__file__).parents[2] / "docs/how-to/use-the-onnx-model.md"


def info_of(side: int) -> ModelInfo:
    normalise = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
    return model_info(image_size=side, normalise=normalise)


def photos(trained) -> list[Path]:
    return sorted(trained.dataset.rglob("*.png"))[::9]


def test_the_documented_code_gives_fastais_probabilities(trained):
    lines = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[1]
    files = photos(trained)
    expected = fastai_probabilities(trained.export, files)
    for photo, answer in zip(files, expected, strict=True):
        names = {"model": trained.storage, "photo": photo}
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(lines, names)
        assert np.abs(names["probabilities"][0] - answer).max() < 1e-4
        assert output.getvalue().split()[0] == trained.record["classes"][answer.argmax()]


@pytest.mark.slow
def test_another_head_in_a_model_is_the_network_with_that_head():
    network = build("test_resnet", 3, 32, "linear").eval()
    frozen = onnx_bytes(network, info_of(32))
    head = split_pooling(network[1])[1]
    torch.nn.init.normal_(head[0].weight)
    torch.nn.init.normal_(head[0].bias)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    outputs = [
        onnxruntime.InferenceSession(data).run(list(OUTPUTS), {"pixels": pixels})
        for data in (with_head(frozen, head.state_dict()), onnx_bytes(network, info_of(32)), frozen)
    ]
    for changed, expected in zip(*outputs[:2], strict=True):
        assert np.abs(changed - expected).max() < 1e-5
    assert np.abs(outputs[0][1] - outputs[2][1]).max() > 0.1
    other = build("test_resnet", 4, 32, "linear")[1]
    assert with_head(frozen, split_pooling(other)[1].state_dict()) is None


@pytest.mark.parametrize("architecture, side", [("resnet18", 32), ("test_vit", 160)])
def test_a_batch_of_any_size_and_three_outputs(architecture, side):
    network = build(architecture, 2, side).eval()
    session = onnxruntime.InferenceSession(onnx_bytes(network, info_of(side)))
    rng = np.random.default_rng(0)
    for count in (1, 3, 16):
        pixels = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        probabilities, logits, features = session.run(list(OUTPUTS), {"pixels": pixels})
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25)))
        with torch.inference_mode():
            expected = network((images - mean) / std)
        assert np.abs(logits - expected.numpy()).max() < 1e-4
        assert np.abs(probabilities - expected.softmax(1).numpy()).max() < 1e-5
        assert features.shape[0] == count
        assert features.ndim == 2


def test_the_file_names_no_path_of_this_machine(trained):
    data = (Path(trained.storage) / "model.onnx").read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in data
    assert str(Path(__file__).parents[2]).encode() not in data
    assert not any(node.metadata_props for node in onnx.load_from_string(data).graph.node)


def test_model_json_has_the_difference_from_fastai(trained):
    info = json.loads((Path(trained.storage) / "model.json").read_text())
    assert info["onnx"]["opset"] == 18
    assert 0 <= info["onnx"]["largest_difference"] < 1e-4
    assert "model.onnx" in info["files"]


class Undecided(nn.Module):
    """A body with data-dependent control flow, which ONNX cannot express."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum().item() > 0 else -x


def test_a_network_with_data_dependent_branches_is_not_exportable():
    body, head = build("resnet18", 2, 32).eval()
    with pytest.raises(NotExportable) as error:
        onnx_bytes(nn.Sequential(nn.Sequential(Undecided(), body), head), info_of(32))
    assert "\n" not in str(error.value)


def test_a_failed_export_is_recorded_and_leaves_no_file(evaluated, checkpoint, monkeypatch):
    from visionflows.training import onnx_graph

    def refuses(*_):
        raise NotExportable("no way to say it")

    monkeypatch.setattr(onnx_graph, "onnx_bytes", refuses)
    (checkpoint / "model.onnx").write_bytes(b"of an earlier try")
    assert export_onnx(evaluated) == {"why": "no way to say it"}
    assert not (checkpoint / "model.onnx").exists()


def test_probabilities_that_differ_from_fastais_leave_no_file(evaluated, checkpoint):
    normalise = evaluated.info.normalise.model_copy(update={"mean": (0.9, 0.9, 0.9)})
    info = evaluated.info.model_copy(update={"normalise": normalise})
    result = export_onnx(dataclasses.replace(evaluated, info=info))
    assert "fails its self-check" in result["why"]
    assert not (checkpoint / "model.onnx").exists()


def test_openvino_is_refused_without_model_onnx(trained):
    model = load_model(find_model("shapes", trained.store))
    bare = {name: sha for name, sha in model.info.files.items() if name != "model.onnx"}
    info = model.info.model_copy(update={"files": bare, "onnx": None})
    before = dataclasses.replace(model, info=info)
    assert make_engine(before, EngineSettings(device="cpu")).kernel == "eager"
    with pytest.raises(
        SettingsError, match=r"engine openvino: the model has no model\.onnx; leave it"
    ):
        make_engine(before, EngineSettings(device="cpu", engine="openvino"))
