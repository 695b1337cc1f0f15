"""Pretrained weights: downloaded by torchvision or timm, or read from a state dict that is named.

from visionflows.training.pretrained_weights import torchvision_network
torchvision_network(True, TrainSettings(pretrained="s3://lab/resnet34.safetensors"))
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from visionflows.errors import SettingsError, TrainError
from visionflows.models import network
from visionflows.storage.local_cache import fetch_local_file
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch
    from torch import nn


def torchvision_network(pretrained: bool, settings: TrainSettings) -> "nn.Module":
    """The network of the settings' architecture, with the weights that they name.

    Raises SettingsError where there is no such file, and TrainError where it does not fit.
    """
    name, size = settings.architecture, settings.image_size
    if not pretrained:
        return network.backbone(name, size)
    if settings.pretrained == "default":
        return network.backbone(name, size, weights="DEFAULT")
    model = network.backbone(name, size)
    _load_state(model, settings.pretrained)
    return model


def _load_state(model: "nn.Module", where: str) -> None:
    """Load a state dict of the whole architecture, with or without its own classifier."""
    state = _read_state(where)
    own = model.state_dict()
    fitting = {key: value for key, value in state.items() if _fits(own, key, value)}
    body = [key for key in own if key not in fitting]
    classifier = {key.rpartition(".")[0] for key in list(own)[-2:]}
    lacking = [key for key in body if key.rpartition(".")[0] not in classifier]
    if lacking:
        raise TrainError(
            f"{where}: not weights of this architecture ({len(lacking)} tensors are missing or of "
            f"another shape, such as {lacking[0]}); give the state dict of the same --arch"
        )
    model.load_state_dict(fitting, strict=False)


def _fits(own: "Mapping[str, torch.Tensor]", key: str, value: "torch.Tensor") -> bool:
    return key in own and own[key].shape == value.shape


def _read_state(where: str) -> "dict[str, torch.Tensor]":
    """The tensors of a .safetensors or .pth file; nothing in it is executed."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    where = fetch_local_file(where)
    if not Path(where).is_file():
        raise SettingsError(
            f"{where}: no such file of weights; --pretrained takes default, none or a file"
        )
    try:
        if where.endswith(".safetensors"):
            return load_file(where)
        state: dict[str, torch.Tensor] = torch.load(where, map_location="cpu", weights_only=True)
        return state
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise TrainError(
            f"{where}: not a plain state dict ({str(error).splitlines()[0]}); save it with "
            "safetensors or torch.save(model.state_dict())"
        ) from error


def timm_overlay(pretrained: str) -> dict[str, str] | None:
    """What tells timm to take a file of weights; None where it is not to. Raises SettingsError."""
    if pretrained in ("default", "none"):
        return None
    pretrained = fetch_local_file(pretrained)
    if not Path(pretrained).is_file():
        raise SettingsError(
            f"{pretrained}: no such file of weights; name a .safetensors or .pth file"
        )
    return {"file": pretrained}


class explain_download_errors:
    """Tell in one line that pretrained weights cannot be fetched, whatever tried to."""

    def __init__(self, settings: TrainSettings):
        self.settings = settings

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        settings = self.settings
        # urllib's, huggingface_hub's and requests' network errors all are OSErrors; a
        # ValueError is torchvision saying that the weights want another image size.
        if settings.pretrained == "default" and isinstance(error, (OSError, ValueError)):
            raise TrainError(
                f"{settings.architecture}: its pretrained weights cannot be had ({error}); "
                "give --pretrained none, or --pretrained PLACE of a state dict"
            ) from error
