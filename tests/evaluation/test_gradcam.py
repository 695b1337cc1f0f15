"""Grad-CAM without torch: the same gradients as torch's own, and nothing where there are none."""

import numpy as np
import pytest
import torch
from conftest import CLASSES, shape

from visionflows.evaluation.gradcam import heat_maps
from visionflows.models.artifact import load, network_of
from visionflows.storage import open_storage


@pytest.fixture(scope="module")
def parts(trained):
    """The network's body and head, and the features of three shapes."""
    model = load(open_storage(trained.storage))
    body, head = network_of(model)
    mean, std = (torch.tensor(v) for v in (model.info.normalise.mean, model.info.normalise.std))
    pixels = np.stack([np.asarray(shape(kind, 7).resize((160, 160))) for kind in CLASSES])
    images = ((torch.from_numpy(pixels) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        return head, body(images)


def by_torch(head, features: torch.Tensor, told: int) -> np.ndarray:
    """Grad-CAM as its paper has it, by autograd."""
    features = features.clone().requires_grad_(True)
    logits = head(features[None])[0]
    others = torch.cat([logits[:told], logits[told + 1 :]])
    (logits[told] - torch.logsumexp(others, 0)).backward()
    spoke = torch.relu((features.grad.mean((1, 2))[:, None, None] * features).sum(0)).detach()
    return (spoke / spoke.max().clamp(min=1e-30)).numpy()


@pytest.mark.parametrize("told", range(3))
def test_gradients_are_those_of_torch(parts, told):
    head, features = parts
    weights = {f"1.{name}": one.numpy() for name, one in head.state_dict().items()}
    maps = heat_maps(features.numpy(), weights, [told] * 3)
    assert maps.shape == (3, 5, 5)
    assert maps.max() == 1
    for ours, one in zip(maps, features, strict=True):
        assert np.abs(ours - by_torch(head, one, told)).max() < 1e-3


def test_a_body_that_pools_by_itself_says_no_place(parts):
    head, features = parts
    weights = {f"1.{name}": one.numpy() for name, one in head.state_dict().items()}
    assert heat_maps(features.numpy().mean((2, 3)), weights, [0] * 3) is None
    assert heat_maps(features.numpy()[:, :, :2, :2], weights, [0] * 3) is None  # hardly a place
    assert heat_maps(features.numpy()[:, :5], weights, [0] * 3) is None
    assert heat_maps(features.numpy(), {}, [0] * 3) is None
