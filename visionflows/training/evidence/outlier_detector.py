"""What tells pictures of another kind than these: made of training images, judged on others.

    from visionflows.training.evidence.outlier_detector import fit_outlier_detector
    fit_outlier_detector(draft, info, files, folder)["false_alarms"]        # {"float32": 0.02}

One half of the validation images sets the threshold, the other says how many of their kind are
taken for another's, in each precision that scoring may take here by itself.
"""

import dataclasses
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from visionflows.evaluation.outliers import Bank, bank_of, restored, threshold_of
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import OUTLIERS, Model
from visionflows.models.schema import ModelInfo
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name
from visionflows.training.evidence.fit_calibration import LEAST, holdout_half

if TYPE_CHECKING:
    import pandas as pd

Precision = Literal["float32", "bfloat16", "int8"]

log = logging.getLogger("visionflows.outliers")

IMAGES = 1000  # of the bank; more cost time with every image that is scored
MOST_VALIDATION = 2000  # enough to tell 2 % from 3 %
FALSE_ALARMS = 0.02  # that the threshold is set for


def fit_outlier_detector(
    checkpoint: Path, info: ModelInfo, files: "pd.DataFrame", folder: Path
) -> dict[str, Any]:
    """What model.json says of how a draft tells outliers (`outliers`); the bank is written.

    Keys: method, k, directions, images (of the bank), threshold, wanted (share of false alarms),
    fitted and judged (validation images), false_alarms (their measured share, by precision); or
    why, where there are too few.
    """
    LocalStorage(checkpoint).remove(OUTLIERS)
    usable = files[files.status == "ok"].drop_duplicates("sha256")
    valid = usable.is_valid.astype(bool)
    asked = usable[valid].sort_values("sha256").head(MOST_VALIDATION)
    judged = holdout_half(list(asked.sha256))
    if min(judged.sum(), (~judged).sum()) < LEAST:
        return {"why": f"{len(asked)} validation images are too few to tell others from"}
    ask = _Ask(Model(LocalStorage(checkpoint), info, digest=""), LocalStorage(Path(folder)))
    features = ask.features(_some_of_all(usable[~valid]))
    if not np.isfinite(features).all():
        return {"why": "the network gives no finite features"}
    made = bank_of(features)
    saved = made.saved()
    LocalStorage(checkpoint).write(OUTLIERS, saved)
    bank = restored(saved, made.k, threshold=1.0)  # judged is what scoring will read
    threshold = threshold_of(_outlier_score(bank, ask.features(asked.path[~judged])), FALSE_ALARMS)
    bank = dataclasses.replace(bank, threshold=max(round(threshold, 6), 1e-6))
    alarms = {
        precision: float(
            (_outlier_score(bank, ask.features(asked.path[judged], precision)) > 1).mean()
        )
        for precision in dict.fromkeys(("float32", ask.by_itself))
    }
    words = ", ".join(f"{100 * share:.1f} % in {name}" for name, share in alarms.items())
    log.info("%d validation images: %s are taken for another kind", judged.sum(), words)
    return {
        "method": "k nearest neighbours",
        "k": bank.k,
        "directions": len(bank.directions),
        "images": len(bank.images),
        "threshold": bank.threshold,
        "wanted": FALSE_ALARMS,
        "fitted": int((~judged).sum()),
        "judged": int(judged.sum()),
        "false_alarms": alarms,
    }


class _Ask:
    """A draft's network, asked for the features of images in a folder."""

    def __init__(self, model: Model, where: LocalStorage):
        self._model, self._where = model, where

    @property
    def by_itself(self) -> Precision:
        """The precision that scoring takes here by itself."""
        return cast(Precision, make_engine(self._model, EngineSettings(), False).precision)

    def features(self, paths: Iterable[str], precision: Precision = "float32") -> np.ndarray:
        """Those of each image, (n, features); one that is gone by now is left out."""
        engine = make_engine(self._model, EngineSettings(precision=precision), False)
        engine.features = True
        names, size = [decode_name(path) for path in paths], engine.batch_size
        batches = ([*names[at : at + size]] for at in range(0, len(names), size))
        rows = (row for batch in engine.stream(self._where, batches) for row in batch)
        return np.stack([row.features for row in rows if row.features is not None])


def _outlier_score(bank: Bank, features: np.ndarray) -> np.ndarray:
    return np.array([bank.outlier_score(one) for one in features])


def _some_of_all(trained: "pd.DataFrame") -> list[str]:
    """Paths of training images, of every class in turn; their sha256 says which come first."""
    lot = trained.sort_values("sha256")
    lot = lot.assign(turn=lot.groupby("label").cumcount()).sort_values(["turn", "sha256"])
    return list(lot.path.head(max(IMAGES, lot.label.nunique())))
