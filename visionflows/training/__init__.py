"""From a file table to a judged network: fastai trains, and what it says becomes evidence.

Here belongs what needs labels; a published model lies in `model`, how it scores in `engine`.
"""

import importlib.util

from visionflows.errors import SettingsError

_NEEDED = ("torch", "torchvision", "fastai", "onnx", "onnxscript", "matplotlib", "scipy", "sklearn")


def check_installed(int8: bool = False) -> None:
    """Nothing, if what trains is installed: who only scores needs none of it. SettingsError."""
    needed = (*_NEEDED, "nncf") if int8 else _NEEDED
    lacking = [name for name in needed if importlib.util.find_spec(name) is None]
    if lacking:
        extra = "int8" if int8 else "train"
        raise SettingsError(
            f"training needs {', '.join(lacking)}, which this machine has not; "
            f"pip install 'visionflows[{extra}]'"
        )
