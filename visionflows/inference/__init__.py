"""What computes: from files to rows, on whatever this machine has.

Here belongs how fast rows come, and that each is its own file's; not which files, nor where to.

    from visionflows.inference import make_engine
    make_engine(load(find("pets", "store")), EngineSettings())
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from visionflows.errors import SettingsError
from visionflows.inference.engine import Engine, EngineSettings, log
from visionflows.models.artifact import INT8, ONNX

if TYPE_CHECKING:
    from visionflows.models.artifact import Model

__all__ = ["Engine", "EngineSettings", "make_engine", "open_engine"]

# Where a driver that torch can use leaves its device: NVIDIA's, the same under WSL, and AMD's.
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def open_engine(model: str, store: str | Path, settings: EngineSettings) -> Engine:
    """The engine of a model, such as `pets@production` in a store.

    Raises as `make_engine`, and ModelError where there is no such model.
    """
    from visionflows.models.artifact import load
    from visionflows.models.registry import find

    found = load(find(model, store))
    engine = make_engine(found, settings)
    log.info("%s on %s, %s", found.name, engine.info.device_name, engine.precision)
    return engine


def make_engine(model: "Model", settings: EngineSettings, check: bool = True) -> Engine:
    """The engine of a model on the device that the settings want, checked against its self-check.

    Raises SettingsError where there is no such device or engine, and ModelError when the network
    does not give the probabilities it was published with.
    """
    engine = _kind(model, settings)(model, settings)
    if check:
        engine.self_check()
    return engine


def _kind(model: "Model", settings: EngineSettings) -> "Callable[[Model, EngineSettings], Engine]":
    """A GPU where there is one, else OpenVINO where the model has what it needs, else torch.

    What is not used is not imported: torch takes seconds, and may not be there.
    """
    openvino = _asked_of_openvino(settings)
    if settings.device != "cpu" and not openvino and _has_gpu(settings.device):
        from visionflows.inference.cuda import GpuEngine

        return GpuEngine
    if settings.engine != "torch" and not settings.compile:
        lacks = _lacks(model, settings)
        if not lacks:
            from visionflows.inference.openvino import OpenVinoEngine

            return OpenVinoEngine
        if openvino:
            raise SettingsError(f"{openvino}: {lacks}; leave it to auto, or give another")
        log.info("%s: torch scores it, %s", model.name, lacks)
    _need_torch(model)
    from visionflows.inference.torch_cpu import CpuEngine

    return CpuEngine


def _asked_of_openvino(settings: EngineSettings) -> str:
    """The setting that OpenVINO alone can do, or an empty string.

    Raises SettingsError where another is torch's alone.
    """
    by_engine = "engine openvino" if settings.engine == "openvino" else ""
    openvino = "precision int8" if settings.precision == "int8" else by_engine
    torch = "engine torch" if settings.engine == "torch" else "compile" if settings.compile else ""
    if openvino and torch:
        raise SettingsError(f"{openvino} with {torch}: the first is OpenVINO's, the other torch's")
    return openvino


def _has_gpu(device: str) -> bool:
    """Whether torch can use a GPU. Raises SettingsError where it is to, and cannot."""
    gpu, driver = False, device == "cuda" or any(Path(driver).exists() for driver in _DRIVERS)
    if driver and importlib.util.find_spec("torch") is not None:
        import torch

        gpu = torch.cuda.is_available()
    elif driver:
        log.info("a GPU's driver is here, and torch is not: pip install 'visionflows[train]'")
    if device == "cuda" and not gpu:
        raise SettingsError(
            "device cuda: no GPU that torch can use here; `visionflows doctor` says why"
        )
    return gpu


def _lacks(model: "Model", settings: EngineSettings) -> str:
    """What OpenVINO lacks to score a model here as the settings want; empty where nothing."""
    from visionflows.inference.openvino import why_absent

    if settings.device == "cuda":
        return "OpenVINO computes on the CPU, and the device is cuda"
    if absent := why_absent():
        return absent
    name = INT8[0] if settings.precision == "int8" else ONNX
    if model.has(name):
        return ""
    told = model.info.onnx
    return f"the model has no {name}{f' ({told.why})' if told and told.why else ''}"


def _need_torch(model: "Model") -> None:
    if importlib.util.find_spec("torch") is None:
        raise SettingsError(
            f"{model.name}: needs torch to be scored here, since OpenVINO or its model.onnx is not "
            "there; pip install 'visionflows[train]'"
        )
