"""Images of a training whose label is probably wrong: suspects.csv of its draft.

    from visionflows.training.evidence.label_issues import find_label_issues
    find_label_issues(draft, table, "store/datasets/pets-5c1a3d0f")["found"]

    suspects.csv     path,sha256,label,was,confidence,why: the suggested label and the given one,
                     the worst first, in the form of corrections
    suspects/        small pictures of the worst, for the report

The features are those of the pretrained network, where there was one: fine-tuned, it has learnt
the wrong labels too. See visionflows.evaluation.confident_learning.
"""

import csv
import io
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from visionflows.errors import TrainError
from visionflows.evaluation.confident_learning import label_issues
from visionflows.reports.thumbnails import thumbnail
from visionflows.storage.local import LocalStorage
from visionflows.training.evidence.evaluate import trained
from visionflows.training.learner import make_learner, torch_random_lock
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd
    from fastai.learner import Learner

log = logging.getLogger("visionflows.suspects")

COLUMNS = ("path", "sha256", "label", "was", "confidence", "why")
MOST_IMAGES = 50_000  # that are judged, drawn by their content: 256 MB of features
SHOWN = 24  # of the worst, in the report


class LabelIssue(NamedTuple):
    """A row of suspects.csv as the report shows it, with a JPEG of its image."""

    path: str
    label: str
    was: str
    confidence: float
    picture: bytes


def find_label_issues(
    checkpoint: Path, table: "pd.DataFrame", folder: str | Path
) -> dict[str, Any]:
    """How many labels are suspected (`suspects` in model.json); suspects.csv names them.

    Keys: images (that were judged), found, features: of the `pretrained` network or the
    `fine-tuned` one.
    """
    storage = LocalStorage(checkpoint)
    usable = table[table.status == "ok"].sort_values("sha256").drop_duplicates("sha256")
    usable = usable.head(MOST_IMAGES).sort_values("path").reset_index(drop=True)
    with torch_random_lock:
        learn, which = _network(table, folder, storage)
        features = features_of(learn, usable)
    found = label_issues(features, list(usable.label), sorted(usable.label.unique()))
    rows = usable.loc[found["index"], ["path", "sha256"]].reset_index(drop=True)
    rows = rows.assign(label=found.label, was=found.was, confidence=found.confidence.round(6))
    rows = rows.assign(why="suspect")[list(COLUMNS)]
    storage.write("suspects.csv", rows.to_csv(index=False, lineterminator="\r\n").encode())
    source = LocalStorage(Path(folder))
    for at, path in enumerate(rows.path[:SHOWN]):
        storage.write(f"suspects/{at}.jpg", thumbnail(source, path))
    log.info("labels that are probably wrong: %d of %d images", len(rows), len(usable))
    return {"images": len(usable), "found": len(rows), "features": which}


def shown(checkpoint: Path) -> list[LabelIssue]:
    """The worst suspects of a draft with their pictures; none where they were not looked for."""
    storage = LocalStorage(checkpoint)
    if not storage.exists("suspects.csv"):
        return []
    text = io.StringIO(storage.read("suspects.csv").decode(), newline="")
    rows = [row for _, row in zip(range(SHOWN), csv.DictReader(text), strict=False)]
    return [
        LabelIssue(
            *(row["path"], row["label"], row["was"], float(row["confidence"])),
            picture=storage.read(f"suspects/{at}.jpg"),
        )
        for at, row in enumerate(rows)
    ]


def features_of(learn: "Learner", usable: "pd.DataFrame") -> np.ndarray:
    """What the body of a learner's network makes of images: float32 (n, features), the mean over
    the places of a picture, which is shown as for validation."""
    import torch

    body = learn.model[0].to(learn.dls.device).eval()
    found = []
    with torch.inference_mode():
        for pixels, *_ in learn.dls.test_dl(usable):
            answer = body(pixels)
            found.append(answer.flatten(2).mean(2) if answer.ndim > 2 else answer)
    return torch.cat(found).float().cpu().numpy()


def _network(
    table: "pd.DataFrame", folder: str | Path, storage: LocalStorage
) -> tuple["Learner", str]:
    """The learner before its training where that began with pretrained weights, else after it."""
    training = json.loads(storage.read("training.json"))
    settings = TrainSettings(**training["settings"])
    if settings.pretrained != "none":
        try:
            return make_learner(table, folder, settings), "pretrained"
        except TrainError as error:  # of a draft of before, whose weights are no longer to be had
            log.warning("%s; labels are judged by the fine-tuned network", error)
    return trained(table, folder, storage, training), "fine-tuned"
