"""What a network's body makes of images, before anything is pooled: where in them something is.

    from visionflows.inference.features import feature_maps
    feature_maps(model, pixels)          # float32 (n, 1280, 7, 7)

By OpenVINO, whatever scored them: read and compiled for a few images in half a second of a core.
"""

import logging
from typing import TYPE_CHECKING

import numpy as np

from visionflows.errors import one_line
from visionflows.inference.openvino import core, runtime, why_absent
from visionflows.models.artifact import ONNX, Model

if TYPE_CHECKING:
    from openvino import Model as Graph

log = logging.getLogger("visionflows.inference")


def feature_maps(model: Model, pixels: np.ndarray) -> np.ndarray | None:
    """float32 (n, channels, height, width) of uint8 pixels (n, side, side, 3).

    None where OpenVINO has no model or cannot run it, and for a body that pools by itself.
    """
    if not model.has(ONNX) or why_absent():
        return None
    try:
        body = _body(core().read_model(model.files.read(ONNX)))
        if body is None:
            return None
        body.reshape([1, *pixels.shape[1:]])
        options = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
        compiled = core().compile_model(body, "CPU", options)
        return np.concatenate([compiled(one[None])[0] for one in pixels])
    except RuntimeError as error:  # OpenVINO's own; nothing that was scored depends on this
        log.warning("%s: OpenVINO gives no features (%s)", model.name, one_line(str(error)))
        return None


def _body(network: "Graph") -> "Graph | None":
    """The network up to where fastai's head pools the same features in two ways."""
    pooled: dict[str, dict[object, object]] = {"ReduceMax": {}, "ReduceMean": {}}
    for node in network.get_ordered_ops():
        if node.get_type_name() in pooled:
            source = node.input_value(0)
            key = source.get_node().get_friendly_name(), source.get_index()
            pooled[node.get_type_name()][key] = source
    both = [pooled["ReduceMax"][key] for key in pooled["ReduceMean"] if key in pooled["ReduceMax"]]
    return runtime().Model([both[-1]], network.get_parameters()) if both else None
