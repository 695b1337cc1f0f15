"""Outliers: images unlike those a network was trained on (out of distribution).

k nearest neighbours (Y. Sun, Y. Ming, X. Zhu, Y. Li, Out-of-distribution Detection with Deep
Nearest Neighbors, ICML 2022): the score is the distance to the k-th nearest training image, between
features of length 1. Distances are computed along the principal components of the training images
(K. Pearson, 1901), at a hundredth of the network's cost. What lies in no component adds to the
distance from every image.

It uses numpy without BLAS. BLAS would keep threads busy beside decoders, and could change the last
bits of a score with the batch.
"""

import dataclasses
import math

import numpy as np

from visionflows.errors import ModelError, one_line
from visionflows.models.artifact import OUTLIERS, Model

K = 10  # of 1,000 images: bench/outliers.py compares others
COMPONENTS = 64


@dataclasses.dataclass(frozen=True)
class OutlierDetector:
    """Training images by their features, float32.

    `centre` (features,) is their mean and `components` (d, features) their principal components.
    `images` (n, d) are their coordinates, and `lengths` (n,) their squared distances from the
    centre. An image farther away than `threshold` is an outlier.
    """

    centre: np.ndarray
    components: np.ndarray
    images: np.ndarray
    lengths: np.ndarray
    k: int
    threshold: float = 1.0

    def outlier_score(self, features: np.ndarray) -> float:
        """The distance to the k-th nearest training image, in thresholds, of features (n,)."""
        centred = _unit(features) - self.centre
        along = np.einsum("df,f->d", self.components, centred)
        # |a - b|² = |a|² + |b|² - 2ab, where ab is computed along the components.
        squared = self.lengths - 2 * np.einsum("nd,d->n", self.images, along)
        nearest = np.partition(squared, self.k - 1)[self.k - 1]
        distance = math.sqrt(max(float(nearest + np.einsum("f,f->", centred, centred)), 0.0))
        return distance / self.threshold

    def to_bytes(self) -> bytes:
        """The detector as safetensors in half precision: see `load_detector`."""
        from safetensors.numpy import save

        # In C order: save writes the memory of an array.
        return save({name: getattr(self, name).astype(np.float16, "C") for name in _TENSORS})


_TENSORS = ("centre", "components", "images", "lengths")


def fit_detector(features: np.ndarray, k: int = K, components: int = COMPONENTS) -> OutlierDetector:
    """The detector of training images by their features (n, features), rounded to half precision.

    For few images k is at most a third of them.
    """
    units = np.stack([_unit(one) for one in features]).astype(np.float64)
    centre = units.mean(0)
    centred = units - centre
    axes = np.linalg.svd(centred, full_matrices=False)[2][:components]
    tensors = (centre, axes, centred @ axes.T, (centred**2).sum(1))
    exact = OutlierDetector(*tensors, k=min(k, -(-len(features) // 3)))
    return load_detector(exact.to_bytes(), exact.k, exact.threshold)


def load_detector(data: bytes, k: int, threshold: float) -> OutlierDetector:
    """The detector of `OutlierDetector.to_bytes`. Raises ValueError if the data is none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
        arrays = {name: tensors[name].astype(np.float32, "C") for name in _TENSORS}
        detector = OutlierDetector(**arrays, k=k, threshold=threshold)
        (d, features), (n, width) = detector.components.shape, detector.images.shape
    except (SafetensorError, KeyError) as error:
        raise ValueError("not an outlier detector") from error
    shapes = (d, (features,), (n,))
    if shapes != (width, detector.centre.shape, detector.lengths.shape) or not 0 < k <= n:
        raise ValueError("its tensors do not fit together")
    return detector


def read_detector(model: Model) -> OutlierDetector | None:
    """The outlier detector of a model; None if it has none. Raises ModelError."""
    info = model.info.outliers
    if info is None or info.threshold is None:
        return None
    try:
        return load_detector(model.files.read(OUTLIERS), info.k, info.threshold)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{model.storage}/{OUTLIERS}: cannot be used ({one_line(str(error))}); publish the "
            "model again"
        ) from error


def conformal_threshold(scores: np.ndarray, false_alarms: float) -> float:
    """The score that a share of at most `false_alarms` of other such images exceeds, on average.

    Conformal prediction (V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World,
    2005) on scores (n,). With fewer than 1 / false_alarms - 1 images no score can show that, and
    the largest is returned.
    """
    rank = math.ceil((len(scores) + 1) * (1 - false_alarms))
    return float(np.sort(scores)[min(rank, len(scores)) - 1])


def _unit(features: np.ndarray) -> np.ndarray:
    """The features scaled to length 1; zeros stay."""
    contiguous = np.ascontiguousarray(features)  # strided numbers are summed in another order
    length = math.sqrt(float(np.einsum("f,f->", contiguous, contiguous)))
    unit: np.ndarray = contiguous / np.float32(length or 1.0)
    return unit
