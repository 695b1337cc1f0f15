"""Label issues: images whose label is probably wrong, in label_issues.csv of a checkpoint.

    label_issues.csv    path,sha256,label,answer,was,confidence,why: the suggested label and the
                        given one, the most likely issues first, in the form of corrections; a line
                        counts as one when a person has written an answer
    label_issues/       thumbnails of the first ones, for the report

The features are the pretrained network's if there is one: fine-tuned, it has learnt the wrong
labels too. The method: visionflows.evaluation.confident_learning.
"""

import csv
import io
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from visionflows.datasets.split import same_side_ids
from visionflows.errors import TrainError
from visionflows.escaping import escape_formula, unescape_formula
from visionflows.evaluation.confident_learning import rank_issues_of_several, rank_label_issues
from visionflows.label_sets import all_classes, is_multi_label
from visionflows.models.artifact import Model
from visionflows.reports.thumbnails import read_thumbnail
from visionflows.review.corrections import LABEL_ISSUE
from visionflows.storage.base import Storage
from visionflows.storage.local import LocalStorage
from visionflows.training import torch_random_lock
from visionflows.training.evidence.evaluate import load_trained_learner
from visionflows.training.features import read_features
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    from fastai.learner import Learner

log = logging.getLogger("visionflows.label_issues")

COLUMNS = ("path", "sha256", "label", "answer", "was", "confidence", "why")
MAX_IMAGES = 50_000  # 256 MB of features; the choice depends on the contents
MAX_THUMBNAILS = 24
_CSV = "label_issues.csv"


class LabelIssue(NamedTuple):
    """A row of label_issues.csv as the report shows it, with a JPEG thumbnail."""

    path: str
    label: str
    was: str
    confidence: float
    picture: bytes


def find_label_issues(model: Model, table: pd.DataFrame, folder: str | Path) -> dict[str, Any]:
    """Write label_issues.csv and return `label_issues` of model.json: see `LabelIssues`."""
    usable = table[table.status == "ok"]
    usable = usable.assign(side=same_side_ids(usable))
    usable = usable.sort_values("sha256").drop_duplicates("sha256").head(MAX_IMAGES)
    usable = usable.sort_values("path").reset_index(drop=True)
    features, network = _features(model.storage, table, usable, folder)
    several = is_multi_label(table)
    rank = rank_issues_of_several if several else rank_label_issues
    classes = all_classes(usable.label, several)
    issues = rank(features, list(usable.label), classes, usable.side.to_numpy())
    rows = usable.loc[issues["index"], ["path", "sha256"]].reset_index(drop=True)
    rows = rows.assign(label=issues.label, was=issues.was, confidence=issues.confidence.round(6))
    rows = rows.assign(answer="", why=LABEL_ISSUE)[list(COLUMNS)]
    written = rows.map(lambda cell: escape_formula(cell) if isinstance(cell, str) else cell)
    model.storage.write(_CSV, written.to_csv(index=False, lineterminator="\r\n").encode())
    images = LocalStorage(folder)
    for number, path in enumerate(rows.path[:MAX_THUMBNAILS]):
        model.storage.write(f"label_issues/{number}.jpg", read_thumbnail(images, path))
    log.info("labels that are probably wrong: %d of %d images", len(rows), len(usable))
    return {"images": len(usable), "found": len(rows), "features": network}


def read_label_issues(checkpoint: Path) -> list[LabelIssue]:
    """Return the most likely issues of a checkpoint with thumbnails; empty without the file."""
    storage = LocalStorage(checkpoint)
    if not storage.exists(_CSV):
        return []
    rows = csv.DictReader(io.StringIO(storage.read(_CSV).decode(), newline=""))
    return [
        LabelIssue(
            unescape_formula(row["path"]),
            unescape_formula(row["label"]),
            unescape_formula(row["was"]),
            float(row["confidence"]),
            picture=storage.read(f"label_issues/{number}.jpg"),
        )
        for number, row in zip(range(MAX_THUMBNAILS), rows, strict=False)
    ]


def _features(
    checkpoint: Storage, table: pd.DataFrame, usable: pd.DataFrame, folder: str | Path
) -> tuple[np.ndarray, str]:
    """Return features of the usable images, float32 (n, features), and of which network they are:
    of the pretrained one if possible, else of the trained one."""
    from visionflows.training.learner import make_learner

    record = json.loads(checkpoint.read("training.json"))
    settings = TrainSettings(**record["settings"])
    known = read_features(checkpoint, usable, settings)
    if known is not None:
        return known, "pretrained"
    with torch_random_lock:
        if settings.pretrained != "none":
            try:
                learn = make_learner(table, folder, settings)
            except TrainError as error:  # resumed, and the weights can no longer be downloaded
                log.warning("%s; label issues use features of the fine-tuned network", error)
            else:
                return _extract(learn, usable), "pretrained"
        learn = load_trained_learner(table, folder, checkpoint, record)
        return _extract(learn, usable), "fine-tuned"


def _extract(learn: "Learner", usable: pd.DataFrame) -> np.ndarray:
    """Return the body's output, averaged over positions, for images prepared as for validation."""
    import torch

    body = learn.model[0].to(learn.dls.device).eval()
    batches = []
    with torch.inference_mode():
        for pixels, *_ in learn.dls.test_dl(usable):
            features = body(pixels)
            batches.append(features.flatten(2).mean(2) if features.ndim > 2 else features)
    return torch.cat(batches).float().cpu().numpy()
