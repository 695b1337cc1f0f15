"""build() creates the same network as fastai's vision_learner, for every kind of cut."""

import os
import subprocess
import sys

import pytest
import torch

from visionflows.errors import SettingsError, TrainError
from visionflows.models import network
from visionflows.training.learner import make_learner
from visionflows.training.settings import TrainSettings

KINDS = [
    "resnet18",  # fastai's own cut
    "squeezenet1_1",
    "shufflenet_v2_x0_5",  # cut before its last pooling
    "mnasnet0_5",  # cannot be cut: everything except its last linear layer
    "googlenet",
    "test_efficientnet",  # timm, pooled by fastai
    "test_vit",  # timm, pools itself
]


@pytest.mark.parametrize("head", ["fastai", "linear"])
@pytest.mark.parametrize("architecture", KINDS)
def test_build_creates_the_network_that_is_trained(trained, architecture, head):
    settings = TrainSettings(
        **{"architecture": architecture, "pretrained": "none", "image_size": 64},
        **{"recipe": "fastai" if head == "fastai" else "probe", "workers": 0, "batch_size": 8},
    )
    if architecture == "test_vit":  # this network accepts no other size
        settings = settings.model_copy(update={"image_size": 160})
    theirs = make_learner(trained.table, trained.dataset, settings).model.cpu().eval()
    ours = network.build(architecture, 3, settings.image_size, head)
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, settings.image_size, settings.image_size)
    with torch.inference_mode():
        expected = theirs(images)
        assert torch.equal(ours.eval()(images), expected)
        folded = network.fold_batch_norm(ours)
        assert torch.allclose(folded(images), expected, atol=1e-4)
    assert expected.shape == (2, 3)


def test_folding_leaves_no_batch_norm_behind_a_convolution():
    folded = network.fold_batch_norm(network.build("resnet18", 2, 64))
    kinds = [type(part).__name__ for part in folded.modules()]
    assert "BatchNorm2d" not in kinds
    assert kinds.count("Conv2d") == 20


def test_unknown_architectures_are_refused_with_the_closest_names():
    with pytest.raises(
        SettingsError, match=r"resnet43: no such architecture; did you mean .*resnet34"
    ):
        network.check_architecture("resnet43")


def settings_for(storage) -> TrainSettings:
    return TrainSettings(
        **{"architecture": "resnet18", "pretrained": str(storage), "image_size": 32},
        **{"recipe": "fastai", "workers": 0, "batch_size": 8},
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_pretrained_weights_of_a_file_reach_the_body(trained, tmp_path, suffix):
    from safetensors.torch import save_file

    source = network.backbone("resnet18", 32)
    where = tmp_path / f"weights{suffix}"
    state = source.state_dict()
    torch.save(state, where) if suffix == ".pth" else save_file(state, where)
    learn = make_learner(trained.table, trained.dataset, settings_for(where))
    body = learn.model[0].state_dict()
    assert torch.equal(body["0.weight"].cpu(), state["conv1.weight"])
    assert torch.equal(body["7.1.conv2.weight"].cpu(), state["layer4.1.conv2.weight"])
    frozen = [p for p in learn.model[0].parameters() if not p.requires_grad]
    assert frozen, "a pretrained body starts frozen"


def test_weights_of_another_architecture_are_refused(trained, tmp_path):
    where = tmp_path / "weights.pth"
    torch.save(network.backbone("squeezenet1_1", 32).state_dict(), where)
    with pytest.raises(TrainError, match="not weights of this architecture"):
        make_learner(trained.table, trained.dataset, settings_for(where))


def test_a_pickle_is_refused_unopened(trained, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    where = tmp_path / "weights.pth"
    torch.save({"trap": Trap()}, where)
    with pytest.raises(TrainError, match="not a plain state dict"):
        make_learner(trained.table, trained.dataset, settings_for(where))
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_in_the_cache_of_torch_is_refused_unopened(trained, tmp_path, monkeypatch):
    """torchvision loads it with weights_only=False."""

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    torch.save({"trap": Trap()}, tmp_path / "hub/checkpoints/resnet18-f37072fd.pth")
    with pytest.raises(TrainError, match=r"weights hold more than tensors, .*; remove them from"):
        make_learner(trained.table, trained.dataset, settings_for("default"))
    assert not (tmp_path / "sprung").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_missing_weights_are_refused(trained, tmp_path):
    with pytest.raises(SettingsError, match="no such weights file"):
        make_learner(trained.table, trained.dataset, settings_for(tmp_path / "none.pth"))


def test_the_error_of_a_failed_weights_download_says_what_to_do(trained, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # nothing downloaded before is found
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(TrainError, match="--pretrained none, or --pretrained PATH_OR_URI"):
        make_learner(trained.table, trained.dataset, settings_for("default"))


@pytest.mark.slow
def test_building_a_network_does_not_import_the_compiler():
    """torch._dynamo takes five seconds to import; torchvision wants one function of it."""
    code = (
        "import importlib, sys; from visionflows.models import network; "
        "network.build('resnet18', 2, 64); "
        "print('torch._dynamo' in sys.modules); "
        "roi_align = importlib.import_module('torchvision.ops.roi_align'); "
        "print(roi_align.is_compile_supported('cpu'), 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]


@pytest.mark.parametrize("architecture", ["googlenet", "inception_v3"])
def test_default_weights_with_auxiliary_classifiers_load(architecture, monkeypatch, tmp_path):
    models = network.import_torchvision_models()
    published = models.get_model(architecture, weights=None, init_weights=False, aux_logits=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = models.get_model_weights(architecture).DEFAULT.url
    cached = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    cached.parent.mkdir(parents=True)
    torch.save(published.state_dict(), cached)
    found = network.backbone(architecture, 299, "DEFAULT")
    bare = network.backbone(architecture, 299)
    assert found.state_dict().keys() == bare.state_dict().keys()
    assert torch.equal(found.fc.weight, published.fc.weight)
