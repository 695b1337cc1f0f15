"""Export the network as model.onnx, which OpenVINO, onnxruntime and others run without torch.

Input: `pixels`, uint8 (batch, side, side, 3), any batch size. Outputs: `probabilities` and
`logits`, float32 (batch, classes), and `features`, the pooled input of the head. Normalisation and
softmax are part of the network. docs/how-to/use-the-onnx-model.md shows how to run it.
"""

import contextlib
import logging
from typing import TYPE_CHECKING, Any, cast

from visionflows.errors import ModelError, one_line
from visionflows.inference import EngineSettings, make_engine
from visionflows.inference.openvino import unavailable_reason
from visionflows.models.artifact import ONNX, Model, load_network
from visionflows.models.network import split_pooling
from visionflows.storage.base import Storage
from visionflows.training.features import FROZEN, is_probe

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("visionflows.export")


def export_onnx(model: Model) -> dict[str, Any]:
    """Write model.onnx, check it, and return `onnx` of model.json: see `Onnx`.

    Torch scores a model without model.onnx.
    """
    from visionflows.training.onnx_graph import NotExportable, onnx_bytes

    model.storage.remove(ONNX)
    if absent := unavailable_reason():
        return _skipped(f"{absent}, which would check it")
    network = cast("nn.Sequential", load_network(model))
    if reused := _frozen_with_head(model.storage, network):
        with contextlib.suppress(ModelError):  # its self-check failed: export the network
            return _check(model, reused)
    try:
        return _check(model, onnx_bytes(network, model.info))
    except (NotExportable, ModelError) as error:
        model.storage.remove(ONNX)
        return _skipped(one_line(str(error)))


def _check(model: Model, data: bytes) -> dict[str, Any]:
    from visionflows.training.onnx_graph import OPSET

    model.storage.write(ONNX, data)
    engine = make_engine(model, EngineSettings(engine="openvino", precision="float32"), False)
    return {"opset": OPSET, "largest_difference": engine.self_check()}


def _frozen_with_head(storage: Storage, network: "nn.Sequential") -> bytes | None:
    """Return the ONNX model of a linear probe, made of the frozen network's: no second export."""
    from visionflows.training.onnx_graph import with_head

    frozen = storage.sub(FROZEN)
    if not is_probe(storage) or not frozen.exists(ONNX):
        return None
    head = split_pooling(cast("nn.Sequential", network[1]))[1]
    return with_head(frozen.read(ONNX), head.state_dict())


def _skipped(why: str) -> dict[str, Any]:
    log.info("no %s, so torch scores this model: %s", ONNX, why)
    return {"why": why}
