"""The network as `model.onnx`: what OpenVINO, onnxruntime and others run, without torch.

    from visionflows.training.evidence.onnx_export import export_onnx
    export_onnx(draft, info)        # {"opset": 18, "largest_difference": 2.4e-07}

In go pixels, uint8 (batch, side, side, 3), of a batch of any size; out come `probabilities`,
`logits` (both float32, (batch, classes)) and `features`, what the head is given of each image once
it is pooled. Normalisation and softmax are inside. The lines that run it are in
docs/how-to/use-the-onnx-model.md.
"""

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from visionflows.errors import ModelError, one_line
from visionflows.inference import EngineSettings, make_engine
from visionflows.inference.openvino import why_absent
from visionflows.models.artifact import ONNX, Model, network_of
from visionflows.models.network import opened
from visionflows.models.schema import ModelInfo, Normalise
from visionflows.storage.local import LocalStorage
from visionflows.training.learner import torch_random_lock

if TYPE_CHECKING:
    import onnx
    from torch import nn

log = logging.getLogger("visionflows.export")

OPSET = 18
OUTPUTS = ("probabilities", "logits", "features")
MOST_BYTES = (1 << 31) - (1 << 20)  # a protocol buffer holds less than 2 GiB


def export_onnx(checkpoint: Path, info: ModelInfo) -> dict[str, Any]:
    """What model.json says of a draft's model.onnx (`onnx`), which is written and checked by this.

    Keys: opset, and largest_difference of a probability from fastai's own answers to the images of
    the self-check, in float32; or why, where there is no model.onnx: torch scores such a model.
    """
    storage = LocalStorage(checkpoint)
    model = Model(storage, info, digest="")
    storage.remove(ONNX)
    if absent := why_absent():
        return _left_out(f"{absent}, which would check it")
    try:
        storage.write(ONNX, onnx_bytes(cast("nn.Sequential", network_of(model)), info))
        engine = make_engine(model, EngineSettings(engine="openvino", precision="float32"), False)
        return {"opset": OPSET, "largest_difference": engine.self_check()}
    except (NotExportable, ModelError) as error:
        storage.remove(ONNX)
        return _left_out(one_line(str(error)))


class NotExportable(Exception):
    """A network that ONNX cannot say."""


def onnx_bytes(network: "nn.Sequential", info: ModelInfo) -> bytes:
    """The ONNX model of a body and its head, without a word of where it was made.

    Raises NotExportable.
    """
    import torch

    if sum(one.numel() * one.element_size() for one in network.state_dict().values()) > MOST_BYTES:
        raise NotExportable("more than 2 GB, which is more than an ONNX file holds")
    side = info.image_size
    whole, example = _with_pixels(network, info.normalise), torch.zeros(2, side, side, 3)
    try:
        with torch_random_lock, warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                whole,
                (example.to(torch.uint8),),
                input_names=["pixels"],
                output_names=list(OUTPUTS),
                dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        written: bytes = _plain(program.model_proto).SerializeToString(deterministic=True)
    # A network is anyone's code, and exporter and optimiser raise what they meet: it is not hidden,
    # but told in the log, in model.json and to who asks for --engine openvino.
    except Exception as error:
        raise NotExportable(_cause(error)) from error
    return written


def _with_pixels(network: "nn.Sequential", normalise: Normalise) -> "nn.Module":
    """The network from uint8 pixels on, its head opened where it has pooled."""
    import torch
    from torch import nn

    body, head = network
    pool, rest = opened(cast("nn.Sequential", head))
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (normalise.mean, normalise.std)
    )

    class Whole(nn.Module):
        scale: torch.Tensor
        shift: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.body, self.pool, self.head = body, pool, rest
            self.register_buffer("scale", 1 / (255 * std))
            self.register_buffer("shift", -mean / std)

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            images = pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift
            features = self.pool(self.body(images))
            logits = self.head(features)
            return logits.softmax(1), logits, features

    return Whole().eval()


def _plain(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The model without the exporter's notes, which name lines and folders of this machine."""
    for part in (model, model.graph, *model.graph.node, *model.functions):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
    return model


def _cause(error: BaseException) -> str:
    """What the exporter met first, in a line: it wraps it in advice for who wrote the network."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"


def _left_out(why: str) -> dict[str, Any]:
    log.info("no %s, so that torch scores this model: %s", ONNX, why)
    return {"why": why}
