"""Whether a faster precision gives a model's answers: the evidence that goes into model.json.

    from tasks.agreement import agreement
    agreement(model, "store/datasets/pets-5c1a3d0f", paths)["labels"]      # 0.9975

Scoring with `--precision auto` takes the faster one only where this says so.
"""

import logging
from pathlib import Path

import numpy as np

from tasks.bundle import Model
from tasks.engine import Engine, EngineSettings, native_bfloat16
from tasks.storage import LocalPlace, name_of

log = logging.getLogger("visionflows.agreement")

LEAST = 0.995  # of the labels must agree
NEAR_TIE = 0.1  # and those that do not must have had their two best classes this close
MOST_IMAGES = 2000  # enough to tell 99.5 % from less; more would make publishing slow


def agreement(model: Model, folder: str | Path, paths: list[str], max_pixels: int) -> dict:
    """How bfloat16 compares with float32 on validation images (`precision.agreement`).

    Keys: images, labels (share that agree), largest_difference (of a probability), flips (how
    many labels differ), far_flips (those that were no near ties), and auto: the precision that
    scoring takes by itself. Measured on the device that publishes; where it does not compute
    bfloat16 natively nothing is measured, and auto is float32.
    """
    settings = EngineSettings(precision="float32", max_pixels=max_pixels)
    exact_engine = Engine(model, settings)
    if not native_bfloat16(exact_engine.device):
        return {"auto": "float32", "why": "published where bfloat16 is not native: no evidence"}
    chosen = paths[:: -(-len(paths) // MOST_IMAGES)]
    names = [name_of(path) for path in chosen]
    exact = _probabilities(exact_engine, folder, names)
    fast_engine = Engine(model, settings.model_copy(update={"precision": "bfloat16"}), check=False)
    fast = _probabilities(fast_engine, folder, names)
    result = compare(exact, fast)
    log.info(
        "bfloat16 agrees with float32 on %.2f %% of %d labels: auto is %s",
        *(100 * result["labels"], result["images"], result["auto"]),
    )
    return result


def compare(exact: np.ndarray, fast: np.ndarray) -> dict:
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


def _probabilities(engine: Engine, folder: str | Path, names: list[str]) -> np.ndarray:
    size = engine.batch_size
    batches = (names[at : at + size] for at in range(0, len(names), size))
    rows = [row for batch in engine.stream(LocalPlace(Path(folder)), batches) for row in batch]
    return np.stack([row.probabilities for row in rows if row.status == "ok"])
