"""Pretrained weights: downloaded by torchvision or timm, or read from a state dict file."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from visionflows.errors import SettingsError, TrainError
from visionflows.hashing import sha256_of_file
from visionflows.models import network
from visionflows.storage.local_cache import fetch_local_file
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch
    from torch import nn


# torchvision's pretrained weights were all trained on pixels normalised with these.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torchvision_network(pretrained: bool, settings: TrainSettings) -> "nn.Module":
    """Return the network of `settings.architecture` with the weights of `settings.pretrained`.

    Raises SettingsError for a missing file and TrainError for weights of another architecture.
    """
    weights = "DEFAULT" if pretrained and settings.pretrained == "default" else None
    model = network.backbone(settings.architecture, settings.image_size, weights)
    if pretrained and not weights:
        _load_state(model, settings.pretrained)
    return model


def timm_overlay(pretrained: str) -> dict[str, str] | None:
    """Return the timm option that names a weights file, or None without one.

    Raises SettingsError for a missing file.
    """
    if pretrained in ("default", "none"):
        return None
    return {"file": _weights_file(pretrained)}


@contextlib.contextmanager
def loading_weights(settings: TrainSettings) -> Iterator[None]:
    """In the block torch unpickles nothing but tensors; its errors become a TrainError of one line.

    torchvision loads what is in torch's cache with weights_only=False, which executes a pickle.
    """
    import pickle

    try:
        with _weights_only():
            yield
    # Network errors of urllib, huggingface_hub and requests are OSErrors. A ValueError is
    # torchvision's for weights of another image size.
    except (OSError, ValueError) as error:
        if settings.pretrained != "default":
            raise
        raise TrainError(
            f"{settings.architecture}: cannot download its pretrained weights ({error}); "
            "give --pretrained none, or --pretrained PATH_OR_URI of a state dict"
        ) from error
    except pickle.UnpicklingError as error:
        import torch

        raise TrainError(
            f"{settings.architecture}: its pretrained weights hold more than tensors, so they were "
            f"not loaded; remove them from {torch.hub.get_dir()}/checkpoints"
        ) from error


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
    """Set torch's own switch, which no caller of torch.load overrides, for the block."""
    wanted = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _load_state(model: "nn.Module", location: str) -> None:
    """Load a state dict of the whole architecture, with or without its own classifier."""
    state, own = _read_state(location), model.state_dict()
    fits = {key for key, value in state.items() if key in own and own[key].shape == value.shape}
    classifier = {key.rpartition(".")[0] for key in list(own)[-2:]}
    missing = [key for key in own if key not in fits and key.rpartition(".")[0] not in classifier]
    if missing:
        raise TrainError(
            f"{location}: not weights of this architecture ({len(missing)} tensors are missing or "
            f"have another shape, such as {missing[0]}); give the state dict of the same --arch"
        )
    model.load_state_dict({key: state[key] for key in fits}, strict=False)


def _read_state(location: str) -> "dict[str, torch.Tensor]":
    """Return the tensors of a .safetensors or .pth file; nothing in it is executed."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = _weights_file(location)
    try:
        if file.endswith(".safetensors"):
            return load_file(file)
        state: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        return state
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise TrainError(
            f"{file}: not a plain state dict ({str(error).splitlines()[0]}); save it with "
            "safetensors or torch.save(model.state_dict())"
        ) from error


def _weights_file(location: str) -> str:
    """Return the local path of a weights file. Raises SettingsError if there is none."""
    file = fetch_local_file(location)
    if not Path(file).is_file():
        raise SettingsError(
            f"{file}: no such weights file; --pretrained takes default, none or a "
            ".safetensors or .pth file"
        )
    return file


def weights_sha256(pretrained: str) -> str:
    """Return the sha256 of the initial weights; empty if they are not a file."""
    if pretrained in ("default", "none"):
        return ""
    path = Path(fetch_local_file(pretrained))
    if not path.is_file():
        return ""  # make_learner raises the error
    with path.open("rb") as file:
        return sha256_of_file(file)


def normalisation(architecture: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of each channel that the weights expect."""
    if network.is_torchvision(architecture):
        return IMAGENET_MEAN, IMAGENET_STD
    import timm

    config = timm.get_pretrained_cfg(architecture)
    return (config.mean, config.std) if config else (IMAGENET_MEAN, IMAGENET_STD)


def weights_bytes(network: "nn.Module") -> bytes:
    """Return the weights of a network as a .safetensors file."""
    from safetensors.torch import save

    state = network.state_dict()
    return save({name: value.detach().cpu().contiguous() for name, value in state.items()})
