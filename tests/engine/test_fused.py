"""Fused convolutions give what the folded network gives, whatever follows them."""

import copy

import pytest
import torch
from torch import nn

from visionflows.engine.fused import fused
from visionflows.model.network import build, folded


def settled(architecture: str, size: int) -> nn.Module:
    """The folded body of a network whose batch norms do something."""
    torch.manual_seed(1)
    network = build(architecture, classes=2, image_size=size).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return folded(network[0]).requires_grad_(False)


@pytest.mark.parametrize(
    "architecture", ["resnet18", "densenet121", "mobilenet_v3_small", "squeezenet1_1", "vgg11_bn"]
)
def test_a_fused_network_is_the_same_function(architecture):
    body = settled(architecture, 64).to(memory_format=torch.channels_last)
    quick = fused(copy.deepcopy(body), torch.zeros(3, 3, 64, 64))
    images = torch.rand(3, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected, given = body(images), quick(images)
        again = quick(images[:2].contiguous(memory_format=torch.channels_last))
    scale = expected.abs().max()
    assert (given - expected).abs().max() < 1e-5 * scale
    assert (again - expected[:2]).abs().max() < 1e-5 * scale  # the self-check has fewer images


def test_a_residual_network_keeps_no_relu_and_no_sum_of_its_own():
    body = fused(settled("resnet18", 64), torch.zeros(2, 3, 64, 64))
    kept = [node for node in body.graph.nodes if node.op not in ("placeholder", "output")]
    assert sum(node.target.startswith("packed_") for node in kept if node.op == "call_module") == 20
    assert len(kept) == 21  # and the pooling


def test_bfloat16_is_as_near_to_float32_as_unfused_bfloat16_is():
    body = settled("resnet18", 64).to(memory_format=torch.channels_last)
    half = copy.deepcopy(body).to(torch.bfloat16)
    quick = fused(copy.deepcopy(half), torch.zeros(4, 3, 64, 64))
    images = torch.rand(4, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        exact = body(images)
        plain = (half(images.bfloat16()).float() - exact).abs().mean()
        ours = (quick(images.bfloat16()).float() - exact).abs().mean()
    assert ours < 1.2 * plain


def test_a_sum_that_is_read_again_is_not_written_over():
    class Twice(nn.Module):
        """The shortcut is read after the sum, so the sum may not take its memory."""

        def __init__(self):
            super().__init__()
            self.first, self.second = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
            self.relu = nn.ReLU()

        def forward(self, x):
            shortcut = self.first(x)
            return self.relu(self.second(x) + shortcut) + shortcut

    body = torch.fx.symbolic_trace(Twice().eval().requires_grad_(False))
    images = torch.rand(2, 3, 8, 8)
    expected = body(images)
    given = fused(body, torch.zeros(2, 3, 8, 8))(images)
    assert torch.allclose(given, expected, atol=1e-5)


def test_the_input_of_the_network_is_not_written_over():
    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()

        def forward(self, x):
            return self.relu(self.conv(x) + x)

    body = torch.fx.symbolic_trace(Shortcut().eval().requires_grad_(False))
    images = torch.rand(2, 3, 8, 8)
    before = images.clone()
    expected = body(images)
    assert torch.allclose(fused(body, torch.zeros(2, 3, 8, 8))(images), expected, atol=1e-5)
    assert torch.equal(images, before)
