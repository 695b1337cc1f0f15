"""Fit the outlier detector: a bank of training images, a threshold, its measured false alarms.

One half of the validation images sets the threshold. The other half measures the false alarms, in
float32 and in the precision that scoring uses by default.
"""

import dataclasses
import functools
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from visionflows.datasets.split import same_side_keys
from visionflows.evaluation.calibration import MIN_IMAGES, holdout_half
from visionflows.evaluation.outliers import (
    OutlierDetector,
    conformal_threshold,
    fit_detector,
)
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import OUTLIERS, Model
from visionflows.training.evidence.evaluate import take_turns
from visionflows.training.features import iterate_features, published_features

log = logging.getLogger("visionflows.outliers")

BANK_IMAGES = 1000  # more cost time with every image that is scored
MAX_VALIDATION = 2000  # enough to tell 2 % from 3 %
FALSE_ALARMS = 0.02  # the share that the threshold is set for


def fit_outlier_detector(model: Model, files: pd.DataFrame, folder: str | Path) -> dict[str, Any]:
    """Write the detector and return `outliers` of model.json: see `Outliers`."""
    model.storage.remove(OUTLIERS)
    usable = files[files.status == "ok"].drop_duplicates("sha256")
    is_valid = usable.is_valid.astype(bool)
    valid = usable[is_valid].sort_values("sha256").head(MAX_VALIDATION)
    held_out = holdout_half(same_side_keys(valid))
    if min(held_out.sum(), (~held_out).sum()) < MIN_IMAGES:
        return {"why": f"{len(valid)} validation images are too few to fit a threshold"}
    known = published_features(model.storage, usable)
    features = functools.partial(_features, model, folder, known)
    trained = features(sample_bank(usable[~is_valid]))
    if not np.isfinite(trained).all():
        return {"why": "the network's features are not finite"}
    bank = fit_detector(trained)
    model.storage.write(OUTLIERS, bank.to_bytes())
    scores = _outlier_scores(bank, features(valid.path[~held_out]))
    threshold = max(round(conformal_threshold(scores, FALSE_ALARMS), 6), 1e-6)
    bank = dataclasses.replace(bank, threshold=threshold)
    precisions = dict.fromkeys(("float32", make_engine(model, EngineSettings(), False).precision))
    measured = {one: features(valid.path[held_out], one) for one in precisions}
    return {
        "method": "k nearest neighbours",
        "k": bank.k,
        "components": len(bank.components),
        "images": len(bank.images),
        "threshold": threshold,
        "wanted": FALSE_ALARMS,
        "fitted": int((~held_out).sum()),
        "tested": int(held_out.sum()),
        "false_alarms": _false_alarms(bank, measured),
    }


def _false_alarms(bank: OutlierDetector, measured: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the share of other images that are flagged, by precision, from their features."""
    shares = {
        name: float((_outlier_scores(bank, one) > 1).mean()) for name, one in measured.items()
    }
    log.info(
        "false alarms among %d validation images: %s",
        len(next(iter(measured.values()))),
        ", ".join(f"{100 * share:.1f} % in {name}" for name, share in shares.items()),
    )
    return shares


def sample_bank(trained: pd.DataFrame) -> list[str]:
    """Return paths of training images, from every class in turn, in an order by their sha256."""
    ordered = take_turns(trained, "sha256")
    return list(ordered.path.head(max(BANK_IMAGES, ordered.label.nunique())))


def _features(
    model: Model,
    folder: str | Path,
    known: dict[str, np.ndarray],
    paths: Iterable[str],
    precision: str = "float32",
) -> np.ndarray:
    """Return the features (n, features) of images; `known` may have those in float32, by path."""
    paths = [*paths]
    if precision == "float32" and known.keys() >= {*paths}:
        return np.stack([known[path] for path in paths])
    found = iterate_features(model, folder, paths, precision=precision)
    return np.stack([one for one in found if one is not None])


def _outlier_scores(bank: OutlierDetector, features: np.ndarray) -> np.ndarray:
    return np.array([bank.outlier_score(one) for one in features])
