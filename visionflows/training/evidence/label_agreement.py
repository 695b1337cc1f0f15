"""Label agreement of a faster precision with float32, and of downscaled with full decoding.

Scoring with `--precision auto` uses a faster precision only if this evidence supports it, and only
on the kernel that it was measured with: visionflows/inference/precision_policy.py. A model is
trained and scored with the same decoding: its agreement says what `--decode full` changes.
"""

import logging
from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd

from visionflows.evaluation.label_decisions import calibrate_each, has_labels
from visionflows.images.decode_options import ENOUGH
from visionflows.inference import EngineSettings, make_engine
from visionflows.inference.precision_policy import (
    CONFIDENCE,
    MIN_AGREEMENT,
    images_needed,
    supports,
)
from visionflows.models.artifact import Model, load_network
from visionflows.models.network import activate, split_pooling
from visionflows.storage.base import Storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name
from visionflows.training.features import published_features

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("visionflows.agreement")

FastPrecision = Literal["bfloat16", "int8"]
# A disagreement is a near tie if the two best classes were this close; with several labels, if the
# changed one was this close to its threshold.
NEAR_TIE = 0.1
MAX_IMAGES = 2000  # enough for four disagreements; more would make publishing slow
MAX_DECODED = 400  # images that are decoded both ways; full decoding is slow


def measure_label_agreement(
    model: Model,
    files: pd.DataFrame,
    folder: str | Path,
    precision: FastPrecision = "bfloat16",
    exclude: Collection[str] = (),
) -> dict[str, Any]:
    """Score images in float32 and in a faster precision on this machine, and compare.

    Training images are used where there are too few validation images. The network is more certain
    about those, so more of their labels agree. Images in `exclude` (sha256) are not used: the
    faster network was made with them. Returns a part of `precision` in model.json: see `Agreement`.
    """
    device: Literal["auto", "cpu"] = "cpu" if precision == "int8" else "auto"
    info = model.info
    settings = EngineSettings(precision="float32", device=device, raw=not info.multi_label)
    exact_engine = make_engine(model, settings)
    kernel = exact_engine.kernels.get(precision, "")
    if not kernel:
        return {"auto": "float32", "why": f"published without native {precision}: no evidence"}
    fast_engine = make_engine(model, settings.model_copy(update={"precision": precision}), False)
    sample = sample_images(files[~files.sha256.isin(list(exclude))])
    names, images = [decode_name(path) for path in sample.path], LocalStorage(folder)
    exact = _known_probabilities(model, sample) or exact_engine.predict_files(images, names)
    fast = fast_engine.predict_files(images, names)
    _, exact_rows, fast_rows = common_rows(names, exact, fast, len(model.classes))
    result = {
        **compare_probabilities(exact_rows, fast_rows, precision, info.decision_thresholds),
        "trained_on": int((~sample.is_valid.astype(bool)).sum()),
        "device": "cuda" if kernel.startswith("cuda") else "cpu",
        "kernel": kernel,
        "library": " ".join(f"{name} {version(name)}" for name in exact_engine.libraries[:1]),
    }
    log.info(
        "%s (%s) agrees with float32 on %.2f %% of %d labels: auto is %s%s",
        *(precision, kernel, 100 * result["labels"], result["images"], result["auto"]),
        f" ({result['why']})" if "why" in result else "",
    )
    return result


def _known_probabilities(model: Model, sample: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the float32 probabilities by file name if the features of all images are known."""
    import torch

    features = published_features(model.storage, sample)
    if not features:
        return {}
    head = split_pooling(cast("nn.Sequential", cast("nn.Sequential", load_network(model))[1]))[1]
    with torch.inference_mode():
        logits = head(torch.from_numpy(np.stack([*features.values()])))
    found = activate(logits, model.info.multi_label).numpy()
    if model.info.multi_label:
        found = calibrate_each(found, model.info.calibration)
    return dict(zip(map(decode_name, features), found, strict=True))


def sample_images(files: pd.DataFrame) -> pd.DataFrame:
    """Return the images to compare: validation images first, each content once, by its sha256.

    The number is fixed beforehand: adding images until there is enough evidence would find it.
    """
    usable = files[files.status == "ok"]
    ordered = usable.sort_values(["is_valid", "sha256"], ascending=[False, True])
    return ordered.drop_duplicates("sha256").head(MAX_IMAGES)


def compare_probabilities(
    exact: np.ndarray,
    fast: np.ndarray,
    precision: str = "bfloat16",
    thresholds: Sequence[float] = (),
) -> dict[str, Any]:
    """Return the fields of `Agreement` from two (images, classes) arrays of probabilities.

    With several labels `thresholds` are those of the classes.
    """
    differs, margin = _label_changes(exact, fast, thresholds)
    images, disagreements = len(exact), int(differs.sum())
    far = int((differs & (margin > NEAR_TIE)).sum())
    is_supported = supports(images, disagreements) and not far
    return {
        "precision": precision,
        "images": images,
        "labels": 1 - float(differs.mean()) if images else 0.0,
        "largest_difference": float(np.abs(exact - fast).max(initial=0.0)),
        "disagreements": disagreements,
        "far_disagreements": far,
        "auto": precision if is_supported else "float32",
        **({} if is_supported else {"why": _reason(images, disagreements, far)}),
    }


def _label_changes(
    exact: np.ndarray, fast: np.ndarray, thresholds: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each image gets another label, or other labels, and how clear it was (n,)."""
    if not thresholds:
        ordered = np.sort(exact, axis=1)
        return exact.argmax(1) != fast.argmax(1), ordered[:, -1] - ordered[:, -2]
    changed = has_labels(exact, thresholds) != has_labels(fast, thresholds)
    margin = np.where(changed, np.abs(exact - np.array(thresholds)), 0.0)
    return changed.any(1), margin.max(1)


def _reason(images: int, disagreements: int, far: int) -> str:
    if far:
        return "a label differs that was no near tie"
    return (
        f"{images:,} images with {disagreements} differing labels do not show that "
        f"{MIN_AGREEMENT:.1%} agree, at {CONFIDENCE:.0%} confidence; that takes "
        f"{images_needed(disagreements):,}"
    )


def common_rows(
    names: list[str], one: dict[str, np.ndarray], other: dict[str, np.ndarray], classes: int
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the names in both results, and their two (images, classes) arrays."""
    common = [name for name in names if name in one and name in other]
    rows = (np.array([result[name] for name in common]) for result in (one, other))
    first, second = (array.reshape(-1, classes) for array in rows)
    return common, first, second


def measure_decode_agreement(
    model: Model, files: pd.DataFrame, folder: str | Path
) -> dict[str, Any]:
    """Return `decode_agreement` of model.json: large validation images decoded both ways.

    Smaller images, whose shorter side is below twice what downscaled decoding keeps, are decoded
    the same both ways.
    """
    valid = files[(files.status == "ok") & files.is_valid]
    large = valid[valid[["width", "height"]].min(axis=1) >= 2 * ENOUGH * model.info.image_size]
    names = [decode_name(path) for path in large.path[:: -(-len(large) // MAX_DECODED) or 1]]
    if not names:
        return {"images": 0, "disagreements": 0, "largest_difference": 0.0, "mean_difference": 0.0}
    common, full, scaled = predict_full_and_scaled(model, LocalStorage(folder), names)
    changes, _ = _label_changes(full, scaled, model.info.decision_thresholds)
    disagreements, difference = changes.sum(), np.abs(full - scaled)
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
