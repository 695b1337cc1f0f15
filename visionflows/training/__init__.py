"""From a file table to a published model: fastai trains, and each evidence step measures."""

import importlib.util
import threading

from visionflows.errors import SettingsError

# torch's generators belong to the process: hold this lock while making or training a learner, so
# that no other thread seeds them or draws from them.
torch_random_lock = threading.RLock()

_REQUIRED = (
    *("torch", "torchvision", "fastai", "onnx", "onnxscript", "matplotlib", "scipy", "sklearn"),
)


def check_installed(int8: bool = False) -> None:
    """Check that the libraries for training are installed. Raises SettingsError."""
    required = (*_REQUIRED, "nncf") if int8 else _REQUIRED
    missing = [name for name in required if importlib.util.find_spec(name) is None]
    if missing:
        extra = "int8" if int8 else "train"
        raise SettingsError(
            f"training needs {', '.join(missing)}, not installed here; "
            f"pip install 'visionflows[{extra}]'"
        )
