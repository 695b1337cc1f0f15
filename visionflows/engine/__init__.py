"""What computes: from files to rows, on whatever this machine has.

Here belongs how fast rows come, and that each is its own file's; not which files, nor where to.

    from visionflows.engine import make_engine
    make_engine(load(find("pets", "store")), EngineSettings())
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from visionflows.engine.base import Engine, EngineSettings
from visionflows.errors import SettingsError

if TYPE_CHECKING:
    from visionflows.model.bundle import Model

__all__ = ["Engine", "EngineSettings", "make_engine"]


def make_engine(model: "Model", settings: EngineSettings, check: bool = True) -> Engine:
    """The engine of a model on the device that the settings want, checked against its self-check.

    Raises SettingsError where there is no such device, and ModelError when the network does not
    give the probabilities it was published with.
    """
    import torch

    Kind: Callable[[Model, EngineSettings], Engine]
    gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not gpu:
        raise SettingsError(
            "device cuda: no GPU that torch can use here; `visionflows doctor` says why"
        )
    if gpu and settings.device != "cpu":
        from visionflows.engine.gpu import GpuEngine as Kind
    else:
        from visionflows.engine.cpu import CpuEngine as Kind
    engine = Kind(model, settings)
    if check:
        engine.self_check()
    return engine
