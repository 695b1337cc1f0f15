"""The report of a run has heat maps if they are cheap."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from conftest import CLASSES, shape, write_shapes
from PIL import Image

from visionflows.inference.openvino import feature_maps
from visionflows.models.artifact import ONNX, load_model, load_network
from visionflows.reports.scoring import render_scoring_report
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.run_report import MIN_FILES_FOR_HEAT_MAPS, explain_samples
from visionflows.scoring.schema import RunResult
from visionflows.storage import open_storage


@pytest.fixture(scope="module")
def model(trained):
    """The model with images large enough for a 4 × 4 feature map."""
    found = load_model(open_storage(trained.storage))
    return dataclasses.replace(found, info=found.info.model_copy(update={"image_size": 128}))


@pytest.fixture(scope="module")
def scored(trained, tmp_path_factory):
    """A run of just enough images, its input and output."""
    root = tmp_path_factory.mktemp("why")
    write_shapes(root / "in", each=MIN_FILES_FOR_HEAT_MAPS // 3 + 1, first_seed=500)
    score_folder(str(root / "in"), "shapes", str(root / "out"), trained.store)
    run = RunResult.read((root / "out/run.json").read_bytes())
    return run, open_storage(root / "in"), open_storage(root / "out")


def without_onnx(model):
    """The model without model.onnx, as if its export had failed."""
    files = {name: sha256 for name, sha256 in model.info.files.items() if name != ONNX}
    return dataclasses.replace(model, info=model.info.model_copy(update={"files": files}))


def test_features_equal_those_of_torch(model):
    pixels = np.stack([np.asarray(shape(kind, 7).resize((128, 128))) for kind in CLASSES])
    mean, std = (torch.tensor(v) for v in (model.info.normalise.mean, model.info.normalise.std))
    with torch.no_grad():
        images = ((torch.from_numpy(pixels) / 255 - mean) / std).permute(0, 3, 1, 2)
        theirs = load_network(model)[0](images).numpy()
    assert np.abs(feature_maps(model, pixels) - theirs).max() < 1e-3
    assert feature_maps(without_onnx(model), pixels) is None


def test_the_least_certain_have_heat_maps(scored, model):
    run, source, output = scored
    least = explain_samples(run, model, source, output).least_certain
    assert len(least) == 12
    for sample in least:
        plain, heat = (Image.open(io.BytesIO(one)) for one in (sample.thumbnail, sample.heat_map))
        assert heat.size == (160, 160)
        assert np.abs(np.asarray(plain.resize(heat.size), float) - np.asarray(heat)).max() > 50
    page = render_scoring_report(run, explain_samples(run, model, source, output))
    assert page.count("Grad-CAM heat map of the same photo for") == 12
    assert "Grad-CAM" in page


def test_few_files_no_onnx_and_a_small_network_have_no_heat_maps(trained, scored, model):
    run, source, output = scored
    few = run.model_copy(
        update={"counts": run.counts.model_copy(update={"ok": MIN_FILES_FOR_HEAT_MAPS - 1})}
    )
    small = load_model(open_storage(trained.storage))  # 32 pixels: a 1 × 1 feature map
    for arguments in ((few, model), (run, without_onnx(model)), (run, small)):
        least = explain_samples(*arguments, source, output).least_certain
        assert len(least) == 12
        assert not any(sample.heat_map for sample in least)


def test_a_missing_file_does_not_affect_other_heat_maps(scored, model):
    run, source, output = scored
    path = explain_samples(run, model, source, output).least_certain[0].path
    data = source.read(path)
    source.remove(path)
    least = explain_samples(run, model, source, output).least_certain
    source.write(path, data)
    assert len(least) == 11
    assert all(sample.heat_map for sample in least)
