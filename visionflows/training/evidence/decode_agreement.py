"""Whether large images decoded smaller give the answers of whole ones: what model.json says of it.

    from visionflows.training.evidence.decode_agreement import decode_agreement
    decode_agreement(model, "store/datasets/pets-5c1a3d0f", paths)["flips"]        # 0

A model is trained and scored with the same decoding; this tells what `--decode full` would change.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visionflows.images.decode_options import ENOUGH
from visionflows.images.memory_limits import MAX_PIXELS
from visionflows.inference import make_engine
from visionflows.inference.engine import EngineSettings
from visionflows.models.artifact import Model
from visionflows.models.schema import ModelInfo
from visionflows.storage.base import Storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name
from visionflows.training.evidence.label_agreement import common_rows

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("visionflows.agreement")

MOST_IMAGES = 400  # each is decoded whole, which takes its time


def decode_agreement(
    model: Model, folder: str | Path, paths: list[str], max_pixels: int = MAX_PIXELS
) -> dict[str, Any]:
    """How answers of images decoded whole and scaled compare, in float32 (`decode_agreement`).

    Keys: images, flips (how many labels differ), largest_difference (of a probability), and
    mean_difference. `paths` are of images that are large enough to be decoded smaller.
    """
    names = [decode_name(path) for path in paths[:: -(-len(paths) // MOST_IMAGES) or 1]]
    if not names:
        return {"images": 0, "disagreements": 0, "largest_difference": 0.0, "mean_difference": 0.0}
    both, one, other = predict_full_and_scaled(model, LocalStorage(Path(folder)), names, max_pixels)
    apart = np.abs(one - other)
    found: dict[str, Any] = {
        "images": len(both),
        "disagreements": int((one.argmax(1) != other.argmax(1)).sum()),
        "largest_difference": float(apart.max(initial=0.0)),
        "mean_difference": float(apart.mean()) if both else 0.0,
    }
    log.info(
        "%d large images decoded scaled and whole: %d labels differ, no probability by more than "
        "%.3f",
        *(found["images"], found["disagreements"], found["largest_difference"]),
    )
    return found


def predict_full_and_scaled(
    model: Model, where: Storage, names: list[str], max_pixels: int = MAX_PIXELS
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The images that have answers, and these of whole and of scaled ones: (images, classes)."""
    settings = EngineSettings(precision="float32", max_pixels=max_pixels)
    whole, scaled = (
        make_engine(model, settings.model_copy(update={"decode": decode}), False).answers(
            where, names
        )
        for decode in ("full", "scaled")
    )
    return common_rows(names, whole, scaled, len(model.classes))


def measure_decode_agreement(
    checkpoint: Path, info: ModelInfo, files: "pd.DataFrame", folder: Path
) -> dict[str, Any]:
    """The comparison for a draft that evaluate has left, on the large images it validates on.

    Of others, the shorter side is less than twice what scaled decoding keeps: they are the same.
    """
    valid = files[(files.status == "ok") & files.is_valid]
    large = valid[valid[["width", "height"]].min(axis=1) >= 2 * ENOUGH * info.image_size]
    model = Model(LocalStorage(checkpoint), info, digest="")
    return decode_agreement(model, folder, list(large.path))
