"""What tells pictures of another kind than these: made of training images, judged on others.

    from visionflows.training.outliers import of_draft
    of_draft(draft, info, files, folder)["false_alarms"]        # {"float32": 0.02}

One half of the validation images sets the threshold, the other says how many of their kind are
taken for another's, in each precision that scoring may take here by itself.
"""

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visionflows.engine import EngineSettings, make_engine
from visionflows.model.bundle import OUTLIERS, Model
from visionflows.model.schema import ModelInfo
from visionflows.places.local import LocalPlace
from visionflows.places.names import name_of
from visionflows.training.calibration import LEAST, judges
from visionflows.trust.outliers import Bank, bank_of, threshold_of

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("visionflows.outliers")

IMAGES = 1000  # of the bank; more cost time with every image that is scored
MOST_VALIDATION = 2000  # enough to tell 2 % from 3 %
FALSE_ALARMS = 0.02  # that the threshold is set for


def of_draft(draft: Path, info: ModelInfo, files: "pd.DataFrame", folder: Path) -> dict[str, Any]:
    """What model.json says of how a draft tells outliers (`outliers`); the bank is written.

    Keys: method, k, directions, images (of the bank), threshold, wanted (share of false alarms),
    fitted and judged (validation images), false_alarms (their measured share, by precision); or
    why, where there are too few.
    """
    LocalPlace(draft).remove(OUTLIERS)
    usable = files[files.status == "ok"].drop_duplicates("sha256")
    valid = usable.is_valid.astype(bool)
    asked = usable[valid].sort_values("sha256").head(MOST_VALIDATION)
    judged = judges(list(asked.sha256))
    if min(judged.sum(), (~judged).sum()) < LEAST:
        return {"why": f"{len(asked)} validation images are too few to tell others from"}
    model, where = Model(LocalPlace(draft), info, digest=""), LocalPlace(folder)
    seen = _features(model, where, _some_of_all(usable[~valid]), "float32")
    bank = bank_of(np.stack(list(seen.values())))
    LocalPlace(draft).write(OUTLIERS, bank.saved())
    setting, judging = list(asked.path[~judged]), list(asked.path[judged])
    threshold = threshold_of(_oddness(bank, model, where, setting), FALSE_ALARMS)
    bank = dataclasses.replace(bank, threshold=max(round(threshold, 6), 1e-6))
    precisions = dict.fromkeys(("float32", make_engine(model, EngineSettings(), False).precision))
    alarms = {
        precision: float((_oddness(bank, model, where, judging, precision) > 1).mean())
        for precision in precisions
    }
    log.info(
        "outliers: of %d validation images %s are taken for another kind",
        *(len(judging), ", ".join(f"{100 * one:.1f} % in {name}" for name, one in alarms.items())),
    )
    return {
        "method": "k nearest neighbours",
        "k": bank.k,
        "directions": len(bank.directions),
        "images": len(bank.images),
        "threshold": bank.threshold,
        "wanted": FALSE_ALARMS,
        "fitted": len(setting),
        "judged": len(judging),
        "false_alarms": alarms,
    }


def _some_of_all(trained: "pd.DataFrame") -> list[str]:
    """Paths of training images, of every class in turn; their sha256 says which come first."""
    lot = trained.sort_values("sha256")
    lot = lot.assign(turn=lot.groupby("label").cumcount()).sort_values(["turn", "sha256"])
    return list(lot.path.head(max(IMAGES, lot.label.nunique())))


def _features(
    model: Model, where: LocalPlace, paths: list[str], precision: str
) -> dict[str, np.ndarray]:
    """The features of images by their names; one that is gone by now is left out."""
    engine = make_engine(model, EngineSettings(precision=precision), False)  # type: ignore[arg-type]
    engine.features = True
    names, size = [name_of(path) for path in paths], engine.batch_size
    batches = ([*names[at : at + size]] for at in range(0, len(names), size))
    rows = (row for batch in engine.stream(where, batches) for row in batch)
    return {row.name: row.features for row in rows if row.features is not None}


def _oddness(
    bank: Bank, model: Model, where: LocalPlace, paths: list[str], precision: str = "float32"
) -> np.ndarray:
    found = _features(model, where, paths, precision)
    return np.array([bank.oddness(one) for one in found.values()])
