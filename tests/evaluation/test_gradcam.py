"""Grad-CAM without torch gives the gradients of torch."""

import numpy as np
import pytest
import torch
from conftest import CLASSES, shape

from visionflows.evaluation.gradcam import heat_maps
from visionflows.models.artifact import load_model, load_network
from visionflows.models.network import linear_head
from visionflows.storage import open_storage


@pytest.fixture(scope="module")
def parts(trained):
    """The network's body and head, and the features of three shapes."""
    model = load_model(open_storage(trained.storage))
    body, head = load_network(model)
    mean, std = (torch.tensor(v) for v in (model.info.normalise.mean, model.info.normalise.std))
    pixels = np.stack([np.asarray(shape(kind, 7).resize((160, 160))) for kind in CLASSES])
    images = ((torch.from_numpy(pixels) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        return head, body(images)


def by_torch(head, features: torch.Tensor, class_: int) -> np.ndarray:
    """Grad-CAM as in its paper, with autograd."""
    features = features.clone().requires_grad_(True)
    logits = head(features[None])[0]
    others = torch.cat([logits[:class_], logits[class_ + 1 :]])
    (logits[class_] - torch.logsumexp(others, 0)).backward()
    spoke = torch.relu((features.grad.mean((1, 2))[:, None, None] * features).sum(0)).detach()
    return (spoke / spoke.max().clamp(min=1e-30)).numpy()


@pytest.mark.parametrize("class_", range(3))
def test_gradients_are_those_of_torch(parts, class_):
    head, features = parts
    weights = {f"1.{name}": one.numpy() for name, one in head.state_dict().items()}
    maps = heat_maps(features.numpy(), weights, [class_] * 3)
    assert maps.shape == (3, 5, 5)
    for ours, one in zip(maps, features, strict=True):
        assert np.abs(ours - by_torch(head, one, class_)).max() < 1e-3


@pytest.mark.parametrize("class_", range(3))
def test_a_linear_head_has_heat_maps_too(parts, class_):
    _, features = parts
    torch.manual_seed(0)
    head = linear_head(features.shape[1], 3, pool=True)
    weights = {f"1.{name}": one.detach().numpy() for name, one in head.state_dict().items()}
    maps = heat_maps(features.numpy(), weights, [class_] * 3)
    for ours, one in zip(maps, features, strict=True):
        assert np.abs(ours - by_torch(head, one, class_)).max() < 1e-3


@pytest.mark.parametrize("class_", [0, 1])  # no positive evidence for the third class
def test_the_hottest_part_has_the_heat_one(parts, class_):
    head, features = parts
    weights = {f"1.{name}": one.numpy() for name, one in head.state_dict().items()}
    assert heat_maps(features.numpy(), weights, [class_] * 3).max() == 1


def test_a_body_that_pools_by_itself_has_no_heat_map(parts):
    head, features = parts
    weights = {f"1.{name}": one.numpy() for name, one in head.state_dict().items()}
    assert heat_maps(features.numpy().mean((2, 3)), weights, [0] * 3) is None
    assert heat_maps(features.numpy()[:, :, :2, :2], weights, [0] * 3) is None  # one position
    assert heat_maps(features.numpy()[:, :5], weights, [0] * 3) is None
    assert heat_maps(features.numpy(), {}, [0] * 3) is None
