"""Label agreement with float32: the evidence for scoring in a faster precision.

Scoring with `--precision auto` uses a faster precision only if this evidence supports it, and only
on the kernel that it was measured with: visionflows/inference/precision_policy.py.
"""

import logging
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd

from visionflows.inference import EngineSettings, make_engine
from visionflows.inference.precision_policy import (
    CONFIDENCE,
    MIN_AGREEMENT,
    images_needed,
    supports,
)
from visionflows.models.artifact import Model, load_network
from visionflows.models.network import split_pooling
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name
from visionflows.training.features import published_features

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("visionflows.agreement")

FastPrecision = Literal["bfloat16", "int8"]
NEAR_TIE = 0.1  # a disagreement is a near tie if the two best classes were this close
MAX_IMAGES = 2000  # enough for four disagreements; more would make publishing slow


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
    faster network was made with them.

    Keys (of `precision` in model.json): those of `compare_probabilities`; trained_on, the number of
    training images; device (cpu or cuda), kernel and library that were measured. Without native
    support only auto (float32) and why.
    """
    device: Literal["auto", "cpu"] = "cpu" if precision == "int8" else "auto"
    settings = EngineSettings(precision="float32", device=device, raw=True)
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
        **compare_probabilities(exact_rows, fast_rows, precision),
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
    return dict(zip(map(decode_name, features), logits.softmax(1).numpy(), strict=True))


def sample_images(files: pd.DataFrame) -> pd.DataFrame:
    """Return the images to compare: validation images first, each content once, by its sha256.

    The number is fixed beforehand: adding images until there is enough evidence would find it.
    """
    usable = files[files.status == "ok"]
    ordered = usable.sort_values(["is_valid", "sha256"], ascending=[False, True])
    return ordered.drop_duplicates("sha256").head(MAX_IMAGES)


def compare_probabilities(
    exact: np.ndarray, fast: np.ndarray, precision: str = "bfloat16"
) -> dict[str, Any]:
    """Compare two (images, classes) arrays of probabilities.

    Keys: precision, images, labels (share that agrees), largest_difference (of a probability),
    disagreements, far_disagreements (that were no near ties), auto (the precision that scoring
    uses by default) and why, if that is float32.
    """
    ordered = np.sort(exact, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    differs = exact.argmax(1) != fast.argmax(1)
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
