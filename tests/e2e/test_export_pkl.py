"""export.pkl opens in a process without visionflows."""

import subprocess
import sys

import pytest
from conftest import CLASSES

from visionflows.inference import EngineSettings, make_engine
from visionflows.models import artifact
from visionflows.storage import open_storage


def test_export_pkl_opens_without_visionflows(trained, tmp_path):
    """fastai's load_learner, in another process and folder, without our packages."""
    image = sorted(trained.dataset.glob("circle/*.png"))[0]
    script = f"""
import importlib.abc, sys, warnings
warnings.filterwarnings("ignore")
class NoRooms(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tasks", "flows"):
            raise ImportError(f"{{name}}: visionflows is not here")
sys.meta_path.insert(0, NoRooms())
from fastai.vision.all import load_learner
learn = load_learner({str(trained.export)!r})
with learn.no_bar():
    label, index, probabilities = learn.predict({str(image)!r})
print(label, *probabilities.tolist())
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    label, *expected = result.stdout.split()
    engine = make_engine(
        artifact.load_model(open_storage(trained.storage)), EngineSettings(batch_size=1, workers=1)
    )
    [[row]] = engine.predict_batches(open_storage(image.parent), [[image.name]])
    assert CLASSES[int(row.probabilities.argmax())] == label
    assert row.probabilities.tolist() == pytest.approx([float(p) for p in expected], abs=1e-4)
