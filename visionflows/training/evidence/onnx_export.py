"""Export the network as model.onnx, which OpenVINO, onnxruntime and others run without torch.

Input: `pixels`, uint8 (batch, side, side, 3), any batch size. Outputs: `probabilities` and
`logits`, float32 (batch, classes), and `features`, the pooled input of the head. Normalisation and
softmax are part of the network. docs/how-to/use-the-onnx-model.md shows how to run it.
"""

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from visionflows.errors import ModelError, one_line
from visionflows.inference import EngineSettings, make_engine
from visionflows.inference.openvino import unavailable_reason
from visionflows.inference.torch_network import scale_and_shift
from visionflows.models.artifact import ONNX, Model, load_network
from visionflows.models.network import split_pooling
from visionflows.models.schema import ModelInfo, Normalise
from visionflows.storage.local import LocalStorage
from visionflows.training.learner import torch_random_lock

if TYPE_CHECKING:
    import onnx
    from torch import nn

log = logging.getLogger("visionflows.export")

OPSET = 18
OUTPUTS = ("probabilities", "logits", "features")
MAX_BYTES = (1 << 31) - (1 << 20)  # a protocol buffer holds less than 2 GiB


class NotExportable(Exception):
    """The network cannot be written as ONNX."""


def export_onnx(checkpoint: Path, info: ModelInfo) -> dict[str, Any]:
    """Write model.onnx, check it, and return `onnx` of model.json.

    Keys: opset, and largest_difference of a probability from fastai's for the self-check images,
    in float32. Only why, if there is no model.onnx: torch scores such a model.
    """
    storage = LocalStorage(checkpoint)
    model = Model(storage, info, digest="")
    storage.remove(ONNX)
    if absent := unavailable_reason():
        return _skipped(f"{absent}, which would check it")
    try:
        storage.write(ONNX, onnx_bytes(cast("nn.Sequential", load_network(model)), info))
        engine = make_engine(model, EngineSettings(engine="openvino", precision="float32"), False)
        return {"opset": OPSET, "largest_difference": engine.self_check()}
    except (NotExportable, ModelError) as error:
        storage.remove(ONNX)
        return _skipped(one_line(str(error)))


def onnx_bytes(network: "nn.Sequential", info: ModelInfo) -> bytes:
    """Return the ONNX model of a body and its head, without paths of this machine.

    Raises NotExportable.
    """
    import torch

    if sum(one.numel() * one.element_size() for one in network.state_dict().values()) > MAX_BYTES:
        raise NotExportable("more than 2 GB, which is more than an ONNX file holds")
    pixels = torch.zeros(2, info.image_size, info.image_size, 3).to(torch.uint8)
    try:
        with torch_random_lock, warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _network_of_pixels(network, info.normalise),
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


def _network_of_pixels(network: "nn.Sequential", normalise: Normalise) -> "nn.Module":
    """Return the network with uint8 pixels as input and the three outputs."""
    import torch
    from torch import nn

    body, head = network
    pool, rest = split_pooling(cast("nn.Sequential", head))
    scale, shift = scale_and_shift(normalise)

    class PixelNetwork(nn.Module):
        scale: torch.Tensor
        shift: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.body, self.pool, self.head = body, pool, rest
            self.register_buffer("scale", scale)
            self.register_buffer("shift", shift)

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            images = pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift
            features = self.pool(self.body(images))
            logits = self.head(features)
            return logits.softmax(1), logits, features

    return PixelNetwork().eval()


def _without_metadata(model: "onnx.ModelProto") -> "onnx.ModelProto":
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


def _skipped(why: str) -> dict[str, Any]:
    log.info("no %s, so torch scores this model: %s", ONNX, why)
    return {"why": why}
