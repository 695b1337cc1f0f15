"""Whether a faster precision gives a model's answers: the evidence that goes into model.json.

    from visionflows.training.evidence.label_agreement import label_agreement
    label_agreement(model, "store/datasets/pets-5c1a3d0f", paths)["labels"]      # 0.9975

Scoring with `--precision auto` takes the faster one only where this says so, and only on the kind
of device and kernel that it was measured on: visionflows/inference/precision_policy.py.
"""

import logging
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from visionflows.images.memory_limits import MAX_PIXELS
from visionflows.inference import EngineSettings, make_engine
from visionflows.inference.precision_policy import CONFIDENCE, LEAST, needed, supports
from visionflows.models.artifact import Model
from visionflows.models.schema import ModelInfo
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("visionflows.agreement")

NEAR_TIE = 0.1  # labels that flip must have had their two best classes this close
MOST_IMAGES = 2000  # enough for four flips; more would make publishing slow


def label_agreement(
    model: Model,
    folder: str | Path,
    paths: list[str],
    max_pixels: int,
    precision: Literal["bfloat16", "int8"] = "bfloat16",
) -> dict[str, Any]:
    """How a faster precision compares with float32 on some images (`precision` in model.json).

    Keys: images, labels (share that agree), largest_difference (of a probability), flips (how
    many labels differ), far_flips (those that were no near ties), auto: the precision that scoring
    takes by itself, why where that is float32; and what it was measured on: device (`cpu` or
    `cuda`), kernel and library. Measured on the device that publishes; where it does not compute
    it natively nothing is measured, and auto is float32.
    """
    device: Literal["auto", "cpu"] = "cpu" if precision == "int8" else "auto"
    settings = EngineSettings(precision="float32", max_pixels=max_pixels, device=device, raw=True)
    exact_engine = make_engine(model, settings)
    kernel = exact_engine.kernels.get(precision, "")
    if not kernel:
        return {"auto": "float32", "why": f"published where {precision} is not native: no evidence"}
    names = [decode_name(path) for path in paths]
    where = LocalStorage(Path(folder))
    exact = exact_engine.answers(where, names)
    fast_engine = make_engine(model, settings.model_copy(update={"precision": precision}), False)
    fast = fast_engine.answers(where, names)
    _, ours, theirs = common_rows(names, exact, fast, len(model.classes))
    result = {
        **compare_probabilities(ours, theirs, precision),
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


def measure_label_agreement(
    checkpoint: Path,
    info: ModelInfo,
    files: "pd.DataFrame",
    folder: Path,
    precision: Literal["bfloat16", "int8"] = "bfloat16",
    without: Collection[str] = (),
) -> dict[str, Any]:
    """The evidence of a draft that evaluate has left; `trained_on`: how many of the images were.

    Images `without` (their sha256) are not asked: those that the faster network was made with.

    Whether two ways of computing agree can be asked of any image, so where there are too few to
    validate on, those that were trained on are asked too. The network is surer of these: more of
    them agree than of new ones, and the record says how many there are.
    """
    chosen = _chosen(files[~files.sha256.isin(list(without))])
    model = Model(LocalStorage(checkpoint), info, digest="")
    found = label_agreement(model, folder, list(chosen.path), MAX_PIXELS, precision)
    trained_on = int((~chosen.is_valid.astype(bool)).sum())
    return found | ({"trained_on": trained_on} if "images" in found else {})


def _chosen(files: "pd.DataFrame") -> "pd.DataFrame":
    """Rows of images to ask: the validation side first, the same bytes once, in no order of names.

    How many is settled before any is asked: looking again until there is enough would find it.
    """
    usable = files[files.status == "ok"]
    lot = usable.sort_values(["is_valid", "sha256"], ascending=[False, True])
    return lot.drop_duplicates("sha256").head(MOST_IMAGES)


def compare_probabilities(
    exact: np.ndarray, fast: np.ndarray, precision: str = "bfloat16"
) -> dict[str, Any]:
    """The comparison of two (images, classes) arrays of probabilities."""
    best = np.sort(exact, axis=1)
    margin = best[:, -1] - best[:, -2]
    disagreeing = exact.argmax(1) != fast.argmax(1)
    images, disagreements = len(exact), int(disagreeing.sum())
    far = int((disagreeing & (margin > NEAR_TIE)).sum())
    auto = precision if supports(images, disagreements) and not far else "float32"
    return {
        "precision": precision,
        "images": images,
        "labels": 1 - float(disagreeing.mean()) if images else 0.0,
        "largest_difference": float(np.abs(exact - fast).max(initial=0.0)),
        "disagreements": disagreements,
        "far_disagreements": far,
        "auto": auto,
        **({} if auto == precision else {"why": _why(images, disagreements, far)}),
    }


def _why(images: int, disagreements: int, far: int) -> str:
    """Why it is float32."""
    if far:
        return "a label that was no near tie differs"
    return (
        f"{images:,} images with {disagreements} differing labels do not show that {LEAST:.1%} agree, at "
        f"{CONFIDENCE:.0%} confidence; that takes {needed(disagreements):,}"
    )


def common_rows(
    names: list[str], one: dict[str, np.ndarray], other: dict[str, np.ndarray], classes: int
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The names that have an answer both times, and the two (images, classes) arrays of these."""
    both = [name for name in names if name in one and name in other]
    rows = (np.array([answers[name] for name in both]) for answers in (one, other))
    first, second = (array.reshape(-1, classes) for array in rows)
    return both, first, second
