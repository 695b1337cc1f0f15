"""A folder or archive of images into a fine-tuned classifier, and folders of images into a CSV.

The library: it runs in a notebook without Prefect. What a notebook wants has a name here, and is
imported when it is first asked for:

    import visionflows as vf
    engine = vf.make_engine(vf.load(vf.find("pets", "store")), vf.ScoreSettings())
    for row in vf.predict(["cat.jpg"], engine): print(row.name, row.status, row.probabilities)
"""

from typing import TYPE_CHECKING

__all__ = [
    "ScoreSettings",
    "TrainSettings",
    "build_table",
    "fetch",
    "find",
    "fine_tune",
    "load",
    "make_engine",
    "open_storage",
    "predict",
    "score_folder",
]

if TYPE_CHECKING:
    from visionflows.datasets.fetch import fetch
    from visionflows.datasets.file_table import build_table
    from visionflows.inference import make_engine
    from visionflows.models.artifact import load
    from visionflows.models.registry import find
    from visionflows.scoring.local_run import score_folder
    from visionflows.scoring.predict import predict
    from visionflows.scoring.settings import ScoreSettings
    from visionflows.storage import open_storage
    from visionflows.training.fine_tune import fine_tune
    from visionflows.training.settings import TrainSettings
else:
    _HOMES = {
        "ScoreSettings": "visionflows.scoring.settings",
        "TrainSettings": "visionflows.training.settings",
        "build_table": "visionflows.datasets.file_table",
        "fetch": "visionflows.datasets.fetch",
        "find": "visionflows.models.registry",
        "fine_tune": "visionflows.training.fine_tune",
        "load": "visionflows.models.artifact",
        "make_engine": "visionflows.inference",
        "open_storage": "visionflows.storage",
        "predict": "visionflows.scoring.predict",
        "score_folder": "visionflows.scoring.local_run",
    }

    def __getattr__(name: str) -> object:
        """What a notebook asks for, from the room where it lives (PEP 562)."""
        import importlib

        if name not in _HOMES:
            raise AttributeError(f"module 'visionflows' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)

    def __dir__() -> list[str]:
        return __all__
