"""Fine-tune image classifiers on your photos and score folders of photos into CSV.

A notebook needs these names only; each is imported when it is first used:

    import visionflows as vf
    model = vf.train("PETS", "pets", labels="uppercase")
    rows = vf.score("inbox", "pets").rows
    vf.predict("cat.jpg", "pets")[0].label
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visionflows.api import evaluate as evaluate
    from visionflows.api import predict as predict
    from visionflows.api import score as score
    from visionflows.api import train as train
    from visionflows.datasets.fetch import fetch as fetch
    from visionflows.datasets.file_table import build_table as build_table
    from visionflows.inference import make_engine as make_engine
    from visionflows.models.artifact import load_model as load_model
    from visionflows.models.registry import find_model as find_model
    from visionflows.scoring.settings import ScoreSettings as ScoreSettings
    from visionflows.storage import open_storage as open_storage
    from visionflows.training.fine_tune import fine_tune as fine_tune
    from visionflows.training.settings import TrainSettings as TrainSettings
else:
    _MODULES = {
        "ScoreSettings": "visionflows.scoring.settings",
        "TrainSettings": "visionflows.training.settings",
        "build_table": "visionflows.datasets.file_table",
        "evaluate": "visionflows.api",
        "fetch": "visionflows.datasets.fetch",
        "find_model": "visionflows.models.registry",
        "fine_tune": "visionflows.training.fine_tune",
        "load_model": "visionflows.models.artifact",
        "make_engine": "visionflows.inference",
        "open_storage": "visionflows.storage",
        "predict": "visionflows.api",
        "score": "visionflows.api",
        "train": "visionflows.api",
    }
    __all__ = [*_MODULES]

    def __getattr__(name: str) -> object:
        """A public name, imported from its module (PEP 562)."""
        import importlib

        if name not in _MODULES:
            raise AttributeError(f"module 'visionflows' has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULES[name]), name)

    def __dir__() -> list[str]:
        return __all__
