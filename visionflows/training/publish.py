"""From a judged draft to a bundle in the store: model.json, the report, the files.

from visionflows.training.publish import build_model_info, publish_model
publish_model(draft, "store", build_model_info(...), files, summary)
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionflows.datasets import file_table
from visionflows.evaluation.thresholds import read_told, thresholds
from visionflows.models.artifact import VALIDATION
from visionflows.models.references import is_name
from visionflows.models.registry import new_version, publish
from visionflows.models.schema import ModelInfo
from visionflows.reports.training import training_report
from visionflows.storage import open_storage
from visionflows.storage.base import Storage
from visionflows.storage.local import LocalStorage
from visionflows.system import library_versions
from visionflows.training.apply_corrections import told_of
from visionflows.training.checkpoint import PUBLISHING
from visionflows.training.evidence import label_issues
from visionflows.training.evidence.top_losses import read_top_losses
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd

    from visionflows.datasets.fetch import Dataset

PRECISIONS = (0.9, 0.95, 0.98, 0.99)  # for which the report says what is left to people
_NOT_METRICS = ("pictures_left_out", "calibration")
_NOT_TRAINING = ("settings", "classes", "normalise", "summary")


def build_model_info(
    name: str,
    labels: str,
    valid_pct: float,
    data: "Dataset",
    files: "pd.DataFrame",
    record: dict[str, Any],
    metrics: dict[str, Any],
) -> ModelInfo:
    """model.json, but for what the bundle itself adds: the digests of its files."""
    settings = record["settings"]
    usable = files[files.status == "ok"]
    valid = int(usable.is_valid.sum())
    left_out = metrics.get("pictures_left_out", {})
    info = {
        "schema_version": ModelInfo.VERSION,
        "name": name,
        "version": new_version(),
        "architecture": settings["architecture"],
        "pretrained": settings["pretrained"],
        "classes": record["classes"],
        "image_size": settings["image_size"],
        "resize": settings["resize"],
        "exif": "applied",
        **TrainSettings(**settings).decode_options.told,
        "normalise": record["normalise"],
        "labels": labels,
        "precision": {"trained": record["mixed_precision"]},
        "dataset": {
            "name": data.name,
            "source": data.source,
            "sha256": data.sha256,
            "fingerprint": file_table.fingerprint(files),
            "images": len(files),
            "train": len(usable) - valid,
            "valid": valid,
            "skipped": len(files) - len(usable),
            **told_of(files),
        },
        "split": {"seed": settings["seed"], "valid_pct": valid_pct},
        "training": {
            **{key: settings[key] for key in ("epochs", "augment", "keep", "patience")},
            **{key: value for key, value in record.items() if key not in _NOT_TRAINING},
        },
        "metrics": {key: value for key, value in metrics.items() if key not in _NOT_METRICS},
        "calibration": metrics["calibration"],
        "versions": library_versions(),
        "notes": [
            *file_table.table_notes(files),
            *(f"the picture {picture} is left out: {why}" for picture, why in left_out.items()),
        ],
    }
    return ModelInfo.model_validate(info, strict=False)


def publish_model(
    checkpoint: Path, store: str, info: ModelInfo, files: "pd.DataFrame", summary: str
) -> str:
    """The place of the bundle made of a draft, its report included; `latest` means it now.

    `summary` is what fastai's learn.summary() says of the frozen network. What an earlier try to
    publish this draft has left in the store is taken away.
    """
    _begin(LocalStorage(checkpoint), open_storage(store).sub(f"models/{info.name}"), info.version)
    pictures = {
        path.stem: path.read_bytes() for path in sorted((checkpoint / "pictures").glob("*.png"))
    }
    told = read_told((checkpoint / VALIDATION).read_bytes(), info.classes, raw=False)
    left = [(least, thresholds(told, info.classes, least).share) for least in PRECISIONS]
    top_losses, doubtful = read_top_losses(LocalStorage(checkpoint)), label_issues.shown(checkpoint)
    page = training_report(info, pictures, summary, top_losses, left, doubtful)
    (checkpoint / "report.html").write_bytes(page.encode())
    return publish(checkpoint, store, info, files)


def _begin(checkpoint: LocalStorage, published: Storage, version: str) -> None:
    """Note the version that a draft becomes; one that was begun and never whole is taken away."""
    if checkpoint.exists(PUBLISHING):
        begun = checkpoint.read(PUBLISHING).decode("ascii", "replace")
        if is_name(begun) and not published.exists(f"{begun}/model.json"):
            published.remove(begun)
    checkpoint.write(PUBLISHING, version.encode())
