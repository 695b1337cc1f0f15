"""The OpenVINO engine on a CPU: it runs an artifact's model.onnx without torch.

A stream is one thread with one of OpenVINO's requests at a time. Each request gets the same number
of images, padded with zeros: so an image's output is the same to the bit in every slot.
"""

import contextlib
import functools
import importlib
import importlib.util
import queue
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from visionflows.errors import ModelError, one_line
from visionflows.inference.cpu_streams import StreamsEngine, pad_batch
from visionflows.inference.engine import EngineSettings, Outputs, log
from visionflows.models.artifact import INT8, ONNX, Model
from visionflows.system import cpu_features

if TYPE_CHECKING:
    from openvino import Core
    from openvino import Model as Graph

# OpenVINO's name of a precision, and the instructions that compute it, the preferred one first.
_NATIVE = {
    "int8": ("INT8", ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm")),
    "bfloat16": ("BF16", ("amx_bf16", "avx512_bf16", "bf16")),
}
# Pixels in a request, so that activations stay in a core's cache. tf_efficientnet_lite0 takes
# 8.9 ms an image for 4 images of 224 pixels on a Zen 4 with 1 MiB, and 10.9 for 16.
REQUEST_PIXELS = 4 * 224**2
_core_lock = threading.Lock()
# The precision of float layers; an int8 network has a few.
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


def unavailable_reason() -> str:
    """Why OpenVINO cannot be used, such as no build for this machine; empty if it can."""
    if importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed"
    try:
        import_openvino()
    except (ImportError, OSError) as error:  # a shared library is missing
        return f"OpenVINO cannot be imported ({one_line(str(error))})"
    return ""


def import_openvino() -> ModuleType:
    """The openvino module without telemetry: by default it reports every import.

    If openvino_telemetry cannot be imported, OpenVINO and NNCF use a stub that sends nothing.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def openvino_core() -> "Core":
    """The one openvino.Core of this process.

    The CPU plugin sets a signal stack for the first thread that compiles, and frees it with the
    core. Two cores freed in the wrong order leave a freed stack, and the next signal crashes.
    """
    with _core_lock:
        return _core()


@functools.cache
def _core() -> "Core":
    openvino = import_openvino()
    # At its first use the binding makes a table of NumPy's types, and lets go of the GIL meanwhile.
    # A second thread that needs the table holds the GIL and waits for the first, for ever
    # (pybind11#4877 is of this kind). So the tables are made before there are such threads.
    openvino.Tensor(np.zeros(1, np.uint8)).element_type.to_dtype()
    core: Core = openvino.Core()
    return core


@contextlib.contextmanager
def shared_core() -> Iterator[None]:
    """Within the block, a library that makes its own Core gets ours: see `openvino_core`."""
    from unittest import mock

    core, openvino = openvino_core(), import_openvino()

    def compile_model(model: Any, device_name: str = "CPU", config: Any = None) -> Any:
        return core.compile_model(model, device_name, config or {})

    with (
        mock.patch.object(openvino, "Core", openvino_core),
        mock.patch.object(openvino, "compile_model", compile_model),
    ):
        yield


class OpenVinoEngine(StreamsEngine):
    """A model computed by OpenVINO on the cores of this machine."""

    kernel = "openvino"
    libraries = ("openvino",)

    def __init__(self, model: Model, settings: EngineSettings):
        self.kernels = native_kernels()
        super().__init__(model, settings)
        most = REQUEST_PIXELS // model.info.image_size**2
        self._request_size = min(max(most, 1), self.batch_size)
        compiled = self._compile()
        # Created in advance: creating one waits for running inferences.
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.workers):
            self._requests.put(compiled.create_infer_request())

    def forward(self, pixels: np.ndarray) -> Outputs:
        """The network's outputs: see Engine.forward."""
        size = self._request_size
        full = pad_batch(pixels, size)
        parts = (self._infer(full[at : at + size]) for at in range(0, len(full), size))
        outputs = Outputs(*(np.concatenate(some) for some in zip(*parts, strict=True)))
        return outputs.head(len(pixels))

    def _infer(self, pixels: np.ndarray) -> list[np.ndarray]:
        """The outputs of one request: probabilities, and features if needed."""
        request = self._requests.get()
        try:
            request.infer({0: pixels}, share_inputs=True)
            outputs = [request.get_output_tensor(0).data.copy()]
            if self.needs_features:
                outputs.append(request.get_tensor("features").data.copy())
        except RuntimeError as error:
            raise self._model_error(error) from error
        finally:
            self._requests.put(request)
        return outputs

    def _compile(self) -> Any:
        side, names = self.decoder.side, INT8 if self.precision == "int8" else (ONNX,)
        try:
            network = openvino_core().read_model(*map(self.model.files.read, names))
            network.reshape([self._request_size, side, side, 3])
            return openvino_core().compile_model(
                network,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
                    "NUM_STREAMS": self.workers,
                    "INFERENCE_NUM_THREADS": self.workers,
                    # Pinning binds the streams of every process to the same first cores.
                    "ENABLE_CPU_PINNING": False,
                    "ENABLE_HYPER_THREADING": True,
                },
            )
        except RuntimeError as error:
            raise self._model_error(error) from error

    def _model_error(self, error: RuntimeError) -> ModelError:
        return ModelError(
            f"{self.model.storage}: OpenVINO cannot run the network ({one_line(str(error))}); "
            "score with --engine torch"
        )


def native_kernels() -> dict[str, str]:
    """The native kernels of int8 and bfloat16, such as `openvino avx512_bf16`; empty if none."""
    found, known = cpu_features(), openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    native: dict[str, str] = {}
    for precision, (name, ways) in _NATIVE.items():
        way = next((way for way in ways if way in found and name in known), "")
        native[precision] = f"openvino {way}" if way else ""
    return native


def feature_maps(model: Model, pixels: np.ndarray) -> np.ndarray | None:
    """float32 (n, channels, height, width) of uint8 pixels (n, side, side, 3).

    None if OpenVINO cannot run the model, and for networks whose body pools by itself.
    """
    if not model.has(ONNX) or unavailable_reason():
        return None
    try:
        body = _body(openvino_core().read_model(model.files.read(ONNX)))
        if body is None:
            return None
        body.reshape([1, *pixels.shape[1:]])
        options = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
        compiled = openvino_core().compile_model(body, "CPU", options)
        return np.concatenate([compiled(one[None])[0] for one in pixels])
    except RuntimeError as error:  # OpenVINO's own; no row depends on this
        log.warning("%s: OpenVINO gives no features (%s)", model.name, one_line(str(error)))
        return None


def _body(network: "Graph") -> "Graph | None":
    """The network up to the feature maps that its head pools; None if its body pools."""
    node = network.output("features").get_node().input_value(0).get_node()
    while node.get_type_name() in ("Reshape", "Squeeze", "Concat"):  # of maxima and means
        node = node.input_value(0).get_node()
    if node.get_type_name() not in ("ReduceMax", "ReduceMean"):
        return None
    return import_openvino().Model([node.input_value(0)], network.get_parameters())
