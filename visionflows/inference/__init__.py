"""Inference: engines that turn files into rows, on a CPU (OpenVINO or torch) or a GPU."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

from visionflows.errors import SettingsError
from visionflows.inference.engine import Engine, EngineSettings, log
from visionflows.models.artifact import INT8, ONNX, Model, load_model
from visionflows.models.registry import find_model

__all__ = ["Engine", "EngineSettings", "make_engine", "open_engine"]

# Device files of the drivers that torch can use: NVIDIA's, the same under WSL, and AMD's.
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def open_engine(model: str, store: str | Path, settings: EngineSettings) -> Engine:
    """The engine of a model, such as `pets@production` in a store.

    Raises as `make_engine`, and ModelError if there is no such model.
    """
    found = load_model(find_model(model, store))
    engine = make_engine(found, settings)
    log.info("%s on %s, %s", found.name, engine.info.device_name, engine.precision)
    return engine


def make_engine(model: Model, settings: EngineSettings, check: bool = True) -> Engine:
    """The engine of a model on the device of the settings, after its self-check.

    Raises SettingsError if the device or engine is unavailable, and ModelError if the network does
    not return the probabilities it was published with.
    """
    engine = _engine_class(model, settings)(model, settings)
    if check:
        engine.self_check()
    return engine


def _engine_class(
    model: Model, settings: EngineSettings
) -> Callable[[Model, EngineSettings], Engine]:
    """A GPU if there is one, else OpenVINO if it can run the model, else torch.

    Only the chosen one is imported: torch takes seconds, and may not be installed.
    """
    openvino = _openvino_setting(settings)
    if settings.device != "cpu" and not openvino and _has_gpu(settings.device):
        from visionflows.inference.cuda import GpuEngine

        return GpuEngine
    if settings.engine != "torch" and not settings.compile:
        reason = _why_not_openvino(model, settings)
        if not reason:
            from visionflows.inference.openvino import OpenVinoEngine

            return OpenVinoEngine
        if openvino:
            raise SettingsError(f"{openvino}: {reason}; leave it at auto, or choose another")
        log.info("%s: scoring with torch: %s", model.name, reason)
    if importlib.util.find_spec("torch") is None:
        raise SettingsError(
            f"{model.name}: needs torch, since OpenVINO or its model.onnx is missing; "
            "pip install 'visionflows[train]'"
        )
    from visionflows.inference.torch_network import TorchCpuEngine

    return TorchCpuEngine


def _openvino_setting(settings: EngineSettings) -> str:
    """The setting that needs OpenVINO, or an empty string.

    Raises SettingsError if another setting needs torch.
    """
    by_engine = "engine openvino" if settings.engine == "openvino" else ""
    openvino = "precision int8" if settings.precision == "int8" else by_engine
    torch = "engine torch" if settings.engine == "torch" else "compile" if settings.compile else ""
    if openvino and torch:
        raise SettingsError(
            f"{openvino} with {torch}: the first needs OpenVINO, the second torch; remove one"
        )
    return openvino


def _has_gpu(device: str) -> bool:
    """Whether torch can use a GPU. Raises SettingsError if it must and cannot."""
    gpu, driver = False, device == "cuda" or any(Path(driver).exists() for driver in _DRIVERS)
    if driver and importlib.util.find_spec("torch") is not None:
        import torch

        gpu = torch.cuda.is_available()
    elif driver:
        log.info("a GPU driver is installed but torch is not: pip install 'visionflows[train]'")
    if device == "cuda" and not gpu:
        raise SettingsError(
            "device cuda: torch finds no GPU on this machine; `visionflows doctor` says why"
        )
    return gpu


def _why_not_openvino(model: Model, settings: EngineSettings) -> str:
    """Why OpenVINO cannot score this model with these settings; empty if it can."""
    from visionflows.inference.openvino import unavailable_reason

    if settings.device == "cuda":
        return "OpenVINO runs on the CPU, and the device is cuda"
    if reason := unavailable_reason():
        return reason
    name = INT8[0] if settings.precision == "int8" else ONNX
    if model.has(name):
        return ""
    onnx = model.info.onnx
    return f"the model has no {name}{f' ({onnx.why})' if onnx and onnx.why else ''}"
