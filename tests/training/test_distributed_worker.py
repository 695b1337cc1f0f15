"""The parts of a distributed worker that one CPU process can test."""

import copy
import sys

import pytest
import torch
from conftest import SMALL, write_shapes

from visionflows.datasets.file_table import build_table
from visionflows.training.dataloaders import make_dataloaders
from visionflows.training.distributed.sharded_loader import ShardedLoader
from visionflows.training.distributed.worker import synchronise_batch_norm
from visionflows.training.settings import TrainSettings


def torchvision_network():
    import torchvision

    return torchvision.models.resnet18(num_classes=3)


def timm_network(name="tf_efficientnet_lite0"):
    import timm

    return timm.create_model(name, num_classes=3)


def settled(network):
    """The network in evaluation mode, with batch norm statistics that affect the output."""
    torch.manual_seed(0)
    network.train()
    for _ in range(3):
        network(torch.randn(4, 3, 64, 64) * 2 + 1)
    return network.eval()


@pytest.mark.parametrize("make", [torchvision_network, timm_network])
@torch.no_grad()
def test_synchronised_batch_norm_keeps_outputs_and_names(make):
    network = settled(make())
    images, names = torch.randn(2, 3, 64, 64), list(network.state_dict())
    before = network(images)
    converted = synchronise_batch_norm(copy.deepcopy(network))
    kinds = [type(layer) for layer in converted.modules()]
    assert any(issubclass(kind, torch.nn.SyncBatchNorm) for kind in kinds)
    assert not any(issubclass(kind, torch.nn.BatchNorm2d) for kind in kinds)
    assert torch.equal(converted(images), before)
    assert list(converted.state_dict()) == names


@torch.no_grad()
def test_torch_converts_batch_norm_without_timm(monkeypatch):
    network = settled(torchvision_network())
    before = network(torch.ones(1, 3, 64, 64))
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setattr("visionflows.training.distributed.worker.find_spec", lambda _: None)
    assert torch.equal(synchronise_batch_norm(network)(torch.ones(1, 3, 64, 64)), before)


@pytest.mark.parametrize("each", [2, 3, 4, 5, 7, 9])
def test_the_length_of_a_sharded_loader_is_its_number_of_steps(tmp_path, monkeypatch, each):
    folder = write_shapes(tmp_path / "in", each=9)
    table = build_table(folder, "folder", valid_pct=0.3)
    settings = TrainSettings(**SMALL, batch_size=each, augment="none")
    monkeypatch.setattr(ShardedLoader, "_broadcast", lambda _, order, rank: order)
    for loader in make_dataloaders(table, folder, settings).loaders:
        ours = [ShardedLoader(loader, rank, 2, device="cpu") for rank in range(2)]
        assert [len(one) for one in ours] == [len([*one]) for one in ours]
