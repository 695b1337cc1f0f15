"""Publish a checkpoint as a model artifact in the store: model.json, the report, the files."""

from pathlib import Path
from typing import Any

import pandas as pd

from visionflows.datasets import file_table
from visionflows.datasets.fetch import Dataset
from visionflows.datasets.table_notes import TEST, table_notes
from visionflows.evaluation.thresholds import model_thresholds
from visionflows.models.artifact import Model
from visionflows.models.registry import new_version, publish
from visionflows.models.schema import ModelInfo, is_name
from visionflows.reports.training import render_training_report
from visionflows.storage import open_storage
from visionflows.storage.base import Storage
from visionflows.storage.local import LocalStorage
from visionflows.system import library_versions
from visionflows.training.apply_corrections import corrections_summary
from visionflows.training.checkpoint import PUBLISHING
from visionflows.training.evidence.label_issues import read_label_issues
from visionflows.training.evidence.top_losses import read_top_losses
from visionflows.training.settings import TrainSettings

PRECISIONS = (0.9, 0.95, 0.98, 0.99)  # the report gives the share below their thresholds
_SETTINGS = ("recipe", "metric", "balance", "epochs", "augment", "keep", "patience")
_NOT_METRICS = ("skipped_plots", "calibration", "decision_thresholds")
_NOT_TRAINING = ("settings", "classes", "normalise", "summary", "thresholds")


def build_model_info(
    name: str,
    labels: str,
    valid_pct: float,
    data: Dataset,
    files: pd.DataFrame,
    record: dict[str, Any],
    metrics: dict[str, Any],
) -> ModelInfo:
    """Return model.json without the digests of files, which publishing adds."""
    settings = TrainSettings(**record["settings"]).resolved("thresholds" in record)
    skipped = metrics.get("skipped_plots", {})
    info = {
        "schema_version": ModelInfo.VERSION,
        "name": name,
        "version": new_version(),
        **settings.network_fields,
        "pretrained": settings.pretrained,
        "classes": record["classes"],
        **_label_fields(metrics),
        "normalise": record["normalise"],
        "labels": labels,
        **files.attrs.get("label_options", {}),
        "precision": {"trained": record["mixed_precision"]},
        "dataset": _dataset(data, files),
        "split": _split(files, settings, valid_pct),
        "training": {
            **settings.model_dump(include=set(_SETTINGS)),
            **{key: value for key, value in record.items() if key not in _NOT_TRAINING},
        },
        "metrics": {key: value for key, value in metrics.items() if key not in _NOT_METRICS},
        "calibration": metrics["calibration"],
        "versions": library_versions(),
        "notes": [
            *table_notes(files),
            *(f"plot {plot} skipped: {why}" for plot, why in skipped.items()),
        ],
    }
    return ModelInfo.model_validate(info, strict=False)


def _label_fields(metrics: dict[str, Any]) -> dict[str, Any]:
    """The fields of a model that gives several labels."""
    thresholds = metrics.get("decision_thresholds")
    return {"multi_label": True, "decision_thresholds": thresholds} if thresholds else {}


def _dataset(data: Dataset, files: pd.DataFrame) -> dict[str, Any]:
    usable, tests = files[files.status == "ok"], int((files.status == TEST).sum())
    valid = int(usable.is_valid.sum())
    return {
        "name": data.name,
        "source": data.source,
        "sha256": data.sha256,
        "fingerprint": file_table.fingerprint(files),
        "images": len(files),
        "train": len(usable) - valid,
        "valid": valid,
        **({"test": tests} if tests else {}),
        "skipped": len(files) - len(usable) - tests,
        **corrections_summary(files),
    }


def _split(files: pd.DataFrame, settings: TrainSettings, valid_pct: float) -> dict[str, Any]:
    group, given_by = (files.attrs.get(name, "") for name in ("group", "split_given_by"))
    drawn = {"seed": settings.seed, "valid_pct": valid_pct}
    split = {"given_by": given_by} if given_by else drawn
    return {**split, "group": group} if group else split


def publish_model(
    checkpoint: Path, store: str, info: ModelInfo, files: pd.DataFrame, summary: str
) -> str:
    """Publish a checkpoint with its report, point `latest` to it, and return its location.

    `summary` is fastai's learn.summary() of the frozen network. Removes what an interrupted
    publishing of this checkpoint has left in the store.
    """
    storage = LocalStorage(checkpoint)
    _begin(storage, open_storage(store).sub(f"models/{info.name}"), info.version)
    plots = {path.stem: path.read_bytes() for path in sorted(checkpoint.glob("pictures/*.png"))}
    model = Model(storage, info)
    shares = [(one, model_thresholds(model, one, raw=False).share) for one in PRECISIONS]
    issues = read_label_issues(checkpoint)
    page = render_training_report(info, plots, summary, read_top_losses(storage), shares, issues)
    storage.write("report.html", page.encode())
    return publish(checkpoint, store, info, files)


def _begin(checkpoint: LocalStorage, models: Storage, version: str) -> None:
    """Note the version that the checkpoint becomes; remove an earlier one that is incomplete."""
    if checkpoint.exists(PUBLISHING):
        earlier = checkpoint.read(PUBLISHING).decode("ascii", "replace")
        if is_name(earlier) and not models.exists(f"{earlier}/model.json"):
            models.remove(earlier)
    checkpoint.write(PUBLISHING, version.encode())
