"""Fit the outlier detector: a bank of training images, a threshold, its measured false alarms.

One half of the validation images sets the threshold. The other half measures the false alarms, in
float32 and in the precision that scoring uses by default.
"""

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visionflows.datasets.split import same_side_keys
from visionflows.evaluation.outliers import (
    OutlierDetector,
    conformal_threshold,
    fit_detector,
    load_detector,
)
from visionflows.models.artifact import OUTLIERS, Model
from visionflows.models.schema import ModelInfo
from visionflows.storage.local import LocalStorage
from visionflows.training.evidence.fit_calibration import MIN_IMAGES, holdout_half
from visionflows.training.features import FeatureExtractor, published_features

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("visionflows.outliers")

BANK_IMAGES = 1000  # more cost time with every image that is scored
MAX_VALIDATION = 2000  # enough to tell 2 % from 3 %
FALSE_ALARMS = 0.02  # the share that the threshold is set for


def fit_outlier_detector(
    checkpoint: Path, info: ModelInfo, files: "pd.DataFrame", folder: Path
) -> dict[str, Any]:
    """Write the detector and return `outliers` of model.json.

    Keys: method, k, components, images (of the detector), threshold, wanted (false alarm share),
    fitted and tested (validation images), false_alarms (measured share, by precision). Only why,
    if there are too few images.
    """
    storage = LocalStorage(checkpoint)
    storage.remove(OUTLIERS)
    usable = files[files.status == "ok"].drop_duplicates("sha256")
    is_valid = usable.is_valid.astype(bool)
    valid = usable[is_valid].sort_values("sha256").head(MAX_VALIDATION)
    held_out = holdout_half(same_side_keys(valid))
    if min(held_out.sum(), (~held_out).sum()) < MIN_IMAGES:
        return {"why": f"{len(valid)} validation images are too few to fit a threshold"}
    known = published_features(storage, usable)
    extractor = FeatureExtractor(Model(storage, info, digest=""), folder, known)
    features = _stack(extractor.features(sample_bank(usable[~is_valid])))
    if not np.isfinite(features).all():
        return {"why": "the network's features are not finite"}
    fitted = fit_detector(features)
    storage.write(OUTLIERS, saved := fitted.to_bytes())
    bank = load_detector(saved, fitted.k, threshold=1.0)  # rounded, as scoring reads it
    scores = _outlier_scores(bank, _stack(extractor.features(valid.path[~held_out])))
    threshold = max(round(conformal_threshold(scores, FALSE_ALARMS), 6), 1e-6)
    bank = dataclasses.replace(bank, threshold=threshold)
    false_alarms = {}
    for precision in dict.fromkeys(("float32", extractor.default_precision)):
        held_out_features = _stack(extractor.features(valid.path[held_out], precision=precision))
        false_alarms[precision] = float((_outlier_scores(bank, held_out_features) > 1).mean())
    shares = ", ".join(f"{100 * share:.1f} % in {name}" for name, share in false_alarms.items())
    log.info("false alarms among %d validation images: %s", held_out.sum(), shares)
    return {
        "method": "k nearest neighbours",
        "k": bank.k,
        "components": len(bank.components),
        "images": len(bank.images),
        "threshold": bank.threshold,
        "wanted": FALSE_ALARMS,
        "fitted": int((~held_out).sum()),
        "tested": int(held_out.sum()),
        "false_alarms": false_alarms,
    }


def sample_bank(trained: "pd.DataFrame") -> list[str]:
    """Return paths of training images, from every class in turn, in an order by their sha256."""
    ordered = trained.sort_values("sha256")
    ordered = ordered.assign(turn=ordered.groupby("label").cumcount())
    ordered = ordered.sort_values(["turn", "sha256"])
    return list(ordered.path.head(max(BANK_IMAGES, ordered.label.nunique())))


def _stack(features: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([*features.values()])


def _outlier_scores(bank: OutlierDetector, features: np.ndarray) -> np.ndarray:
    return np.array([bank.outlier_score(one) for one in features])
