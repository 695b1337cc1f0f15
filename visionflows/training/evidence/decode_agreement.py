"""Decode agreement: whether large images decoded downscaled give the labels of full decoding.

A model is trained and scored with the same decoding; this measures what `--decode full` changes.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from visionflows.images.decode_options import ENOUGH
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import Model
from visionflows.storage.base import Storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name
from visionflows.training.evidence.label_agreement import common_rows

log = logging.getLogger("visionflows.agreement")

MAX_IMAGES = 400  # full decoding is slow


def measure_decode_agreement(
    model: Model, files: pd.DataFrame, folder: str | Path
) -> dict[str, Any]:
    """Return `decode_agreement` of model.json: large validation images decoded both ways.

    Smaller images, whose shorter side is below twice what downscaled decoding keeps, are decoded
    the same both ways. Keys: images, disagreements (labels that differ), largest_difference and
    mean_difference (of probabilities, in float32).
    """
    valid = files[(files.status == "ok") & files.is_valid]
    large = valid[valid[["width", "height"]].min(axis=1) >= 2 * ENOUGH * model.info.image_size]
    names = [decode_name(path) for path in large.path[:: -(-len(large) // MAX_IMAGES) or 1]]
    if not names:
        return {"images": 0, "disagreements": 0, "largest_difference": 0.0, "mean_difference": 0.0}
    common, full, scaled = predict_full_and_scaled(model, LocalStorage(folder), names)
    disagreements, difference = (full.argmax(1) != scaled.argmax(1)).sum(), np.abs(full - scaled)
    largest = float(difference.max(initial=0.0))
    log.info(
        "%d large images decoded downscaled and in full: %d labels differ, probabilities by up to "
        "%.3f",
        *(len(common), disagreements, largest),
    )
    return {
        "images": len(common),
        "disagreements": int(disagreements),
        "largest_difference": largest,
        "mean_difference": float(difference.mean()) if common else 0.0,
    }


def predict_full_and_scaled(
    model: Model, storage: Storage, names: list[str]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the names that were decoded both ways, and their (images, classes) probabilities."""
    full, scaled = (
        make_engine(model, settings, False).predict_files(storage, names)
        for settings in (
            EngineSettings(precision="float32", decode="full"),
            EngineSettings(precision="float32", decode="scaled"),
        )
    )
    return common_rows(names, full, scaled, len(model.classes))
