"""The network as an ONNX model with uint8 pixels as input and three outputs.

Import this module inside functions only, as torch takes seconds to import.
"""

import warnings
from typing import cast

import onnx
import torch
from onnx import numpy_helper
from torch import nn

from visionflows.inference.torch_network import scale_and_shift
from visionflows.models.network import activate, split_pooling
from visionflows.models.schema import NetworkInfo
from visionflows.training import torch_random_lock

OPSET = 18
OUTPUTS = ("probabilities", "logits", "features")
MAX_BYTES = (1 << 31) - (1 << 20)  # a protocol buffer holds less than 2 GiB


class NotExportable(Exception):
    """The network cannot be written as ONNX."""


def onnx_bytes(network: nn.Sequential, info: NetworkInfo) -> bytes:
    """Return the ONNX model of a body and its head, without paths of this machine.

    Raises NotExportable.
    """
    if sum(one.numel() * one.element_size() for one in network.state_dict().values()) > MAX_BYTES:
        raise NotExportable("more than 2 GB, which is more than an ONNX file holds")
    pixels = torch.zeros(2, info.image_size, info.image_size, 3).to(torch.uint8)
    try:
        with torch_random_lock, warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _PixelNetwork(network, info).eval(),
                (pixels,),
                input_names=["pixels"],
                output_names=list(OUTPUTS),
                dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        proto = _without_metadata(program.model_proto)
        data: bytes = proto.SerializeToString(deterministic=True)
    # Architectures come from other libraries, and exporter and optimiser raise errors of all
    # kinds. The error goes to the log, into model.json and to users of --engine openvino.
    except Exception as error:
        raise NotExportable(_root_cause(error)) from error
    return data


def with_head(data: bytes, head: dict[str, torch.Tensor]) -> bytes | None:
    """Return an ONNX model with other weights of its head, by the names in the head's state dict.

    None if the exporter has folded them into others.
    """
    model = onnx.load_from_string(data)
    initializers = {one.name: one for one in model.graph.initializer}
    for name, value in head.items():
        initializer = initializers.get(f"head.{name}")
        if initializer is None or [*initializer.dims] != [*value.shape]:
            return None
        initializer.CopyFrom(numpy_helper.from_array(value.float().numpy(), initializer.name))
    changed: bytes = model.SerializeToString(deterministic=True)
    return changed


class _PixelNetwork(nn.Module):
    """A network with uint8 pixels as input and the three outputs."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, network: nn.Sequential, info: NetworkInfo):
        super().__init__()
        self.multi_label = info.multi_label
        self.body, head = network
        self.pool, self.head = split_pooling(cast("nn.Sequential", head))
        for name, value in zip(("scale", "shift"), scale_and_shift(info.normalise), strict=True):
            self.register_buffer(name, value)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        images = pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift
        features = self.pool(self.body(images))
        logits = self.head(features)
        return activate(logits, self.multi_label), logits, features


def _without_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the exporter's notes, which name source lines and folders of this machine."""
    for part in (model, model.graph, *model.graph.node, *model.functions):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
    return model


def _root_cause(error: BaseException) -> str:
    """Return the exporter's first error in one line, without the advice around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
