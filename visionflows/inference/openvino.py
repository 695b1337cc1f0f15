"""The engine of OpenVINO on a CPU: a bundle's model.onnx, without torch.

    make_engine(load(find("pets", "store")), EngineSettings(device="cpu"))

A stream is one thread, and has one of OpenVINO's requests at a time. It is always given the same
number of images, the last ones empty: OpenVINO is made for that shape, and an image's answer is
the same to the bit in every slot of it, whatever lies beside it.
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
from visionflows.inference.cpu_streams import StreamsEngine, first, padded
from visionflows.inference.engine import Answers, EngineSettings
from visionflows.inference.precision_policy import precision_of
from visionflows.models.artifact import INT8, ONNX, Model
from visionflows.system import cpu_features

if TYPE_CHECKING:
    from openvino import Core

# OpenVINO's name of a precision, and instructions: the first that a processor has is what is used.
_NATIVE = {
    "int8": ("INT8", ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm")),
    "bfloat16": ("BF16", ("amx_bf16", "avx512_bf16", "bf16")),
}
# Pixels that a network is given at once, so that what it makes of them stays in a core's cache:
# 4 images of 224 pixels take tf_efficientnet_lite0 8.9 ms each on a Zen 4 with 1 MiB, 16 take 10.9.
TOGETHER = 4 * 224**2
_first = threading.Lock()
# What OpenVINO computes in; of a network in int8 the few layers that are not.
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


def why_absent() -> str:
    """Why OpenVINO computes nothing here, such as no build for the machine; empty where it does."""
    if importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed"
    try:
        runtime()
    except (ImportError, OSError) as error:  # a library that it needs, or its own, is not there
        return f"OpenVINO cannot be imported ({one_line(str(error))})"
    return ""


def runtime() -> ModuleType:
    """OpenVINO, without its telemetry: left alone, it tells Google Analytics of every import.

    Where openvino_telemetry cannot be imported, OpenVINO and NNCF have a stub that tells nobody.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def core() -> "Core":
    """OpenVINO's way to its devices: one, as long as the process lives.

    Its CPU plugin gives the thread that first compiles a stack of its own for signals, and takes
    it away with the core: two of them, ended in the wrong order, leave a stack that is gone, and
    the next signal ends the process.
    """
    with _first:
        return _core()


@functools.cache
def _core() -> "Core":
    made: Core = runtime().Core()
    return made


@contextlib.contextmanager
def with_our_core() -> Iterator[None]:
    """For a library that makes cores of its own: within, it is given ours, for the same reason."""
    from unittest import mock

    ours, openvino = core(), runtime()

    def compile_model(model: Any, device_name: str = "CPU", config: Any = None) -> Any:
        return ours.compile_model(model, device_name, config or {})

    with (
        mock.patch.object(openvino, "Core", core),
        mock.patch.object(openvino, "compile_model", compile_model),
    ):
        yield


class OpenVinoEngine(StreamsEngine):
    """A model computed by OpenVINO on the cores of this machine."""

    kernel = "openvino"
    libraries = ("openvino",)

    def __init__(self, model: Model, settings: EngineSettings):
        self.kernels = kernels()
        precision = precision_of(model.info, settings.precision, self.kernels)
        super().__init__(model, settings, precision)
        most = TOGETHER // model.info.image_size**2
        self._together = min(max(most, 1), self.batch_size)
        compiled = self._compile()
        # Made beforehand: making one waits for an inference that runs.
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.workers):
            self._requests.put(compiled.create_infer_request())

    def forward(self, pixels: np.ndarray) -> Answers:
        """The network's own answers: see Engine.forward."""
        size = self._together
        full = padded(pixels, size)
        parts = (self._answers(full[at : at + size]) for at in range(0, len(full), size))
        answers = Answers(*(np.concatenate(some) for some in zip(*parts, strict=True)))
        return first(answers, len(pixels))

    def _answers(self, pixels: np.ndarray) -> list[np.ndarray]:
        """What it says of as many images as the network is given at once."""
        request = self._requests.get()
        try:
            request.infer({0: pixels}, share_inputs=True)
            answers = [request.get_output_tensor(0).data.copy()]
            if self.asks_features:
                answers.append(request.get_tensor("features").data.copy())
        except RuntimeError as error:
            raise self._cannot(error) from error
        finally:
            self._requests.put(request)
        return answers

    def _files(self) -> tuple[bytes, ...]:
        read = self.model.files.read
        return tuple(read(name) for name in (INT8 if self.precision == "int8" else (ONNX,)))

    def _compile(self) -> Any:
        side = self.decoder.side
        try:
            network = core().read_model(*self._files())
            network.reshape([self._together, side, side, 3])
            return core().compile_model(
                network,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
                    "NUM_STREAMS": self.workers,
                    "INFERENCE_NUM_THREADS": self.workers,
                    # It would bind the streams of every process to the same first cores.
                    "ENABLE_CPU_PINNING": False,
                    "ENABLE_HYPER_THREADING": True,
                },
            )
        except RuntimeError as error:
            raise self._cannot(error) from error

    def _cannot(self, error: RuntimeError) -> ModelError:
        return ModelError(
            f"{self.model.storage}: OpenVINO cannot run its network ({one_line(str(error))}); "
            "score with --engine torch"
        )


def kernels() -> dict[str, str]:
    """What computes int8 and bfloat16 natively here, such as `openvino avx512_bf16`; or empty."""
    found, known = cpu_features(), core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    native: dict[str, str] = {}
    for precision, (name, ways) in _NATIVE.items():
        way = next((way for way in ways if way in found and name in known), "")
        native[precision] = f"openvino {way}" if way else ""
    return native
