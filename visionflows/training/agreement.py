"""Whether a faster precision gives a model's answers: the evidence that goes into model.json.

    from visionflows.training.agreement import agreement
    agreement(model, "store/datasets/pets-5c1a3d0f", paths)["labels"]      # 0.9975

Scoring with `--precision auto` takes the faster one only where this says so.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visionflows.engine import EngineSettings, make_engine
from visionflows.images.open import MAX_PIXELS
from visionflows.model.bundle import Model
from visionflows.model.schema import ModelInfo
from visionflows.places.local import LocalPlace
from visionflows.places.names import name_of

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("visionflows.agreement")

LEAST = 0.995  # of the labels must agree
NEAR_TIE = 0.1  # and those that do not must have had their two best classes this close
MOST_IMAGES = 2000  # enough to tell 99.5 % from less; more would make publishing slow


def agreement(
    model: Model, folder: str | Path, paths: list[str], max_pixels: int
) -> dict[str, Any]:
    """How bfloat16 compares with float32 on validation images (`precision.agreement`).

    Keys: images, labels (share that agree), largest_difference (of a probability), flips (how
    many labels differ), far_flips (those that were no near ties), and auto: the precision that
    scoring takes by itself. Measured on the device that publishes; where it does not compute
    bfloat16 natively nothing is measured, and auto is float32.
    """
    settings = EngineSettings(precision="float32", max_pixels=max_pixels)
    exact_engine = make_engine(model, settings)
    if not exact_engine.native_bfloat16:
        return {"auto": "float32", "why": "published where bfloat16 is not native: no evidence"}
    chosen = paths[:: -(-len(paths) // MOST_IMAGES)]
    names = [name_of(path) for path in chosen]
    where = LocalPlace(Path(folder))
    exact = exact_engine.answers(where, names)
    fast_engine = make_engine(model, settings.model_copy(update={"precision": "bfloat16"}), False)
    fast = fast_engine.answers(where, names)
    both = [name for name in names if name in exact and name in fast]
    result = compare(*(_rows(answers, both, model) for answers in (exact, fast)))
    log.info(
        "bfloat16 agrees with float32 on %.2f %% of %d labels: auto is %s",
        *(100 * result["labels"], result["images"], result["auto"]),
    )
    return result


def of_draft(draft: Path, info: ModelInfo, files: "pd.DataFrame", folder: Path) -> dict[str, Any]:
    """The evidence of a draft that evaluate has left, on its whole validation side."""
    valid = files[(files.status == "ok") & files.is_valid]
    model = Model(LocalPlace(draft), info, digest="")
    return agreement(model, folder, list(valid.path), MAX_PIXELS)


def compare(exact: np.ndarray, fast: np.ndarray) -> dict[str, Any]:
    """The comparison of two (images, classes) arrays of probabilities."""
    best = np.sort(exact, axis=1)
    margin = best[:, -1] - best[:, -2]
    flipped = exact.argmax(1) != fast.argmax(1)
    far = int((flipped & (margin > NEAR_TIE)).sum())
    labels = 1 - float(flipped.mean()) if len(exact) else 0.0
    return {
        "precision": "bfloat16",
        "images": len(exact),
        "labels": labels,
        "largest_difference": float(np.abs(exact - fast).max(initial=0.0)),
        "flips": int(flipped.sum()),
        "far_flips": far,
        "auto": "bfloat16" if labels >= LEAST and not far else "float32",
    }


def _rows(answers: dict[str, np.ndarray], names: list[str], model: Model) -> np.ndarray:
    return np.array([answers[name] for name in names]).reshape(-1, len(model.classes))
