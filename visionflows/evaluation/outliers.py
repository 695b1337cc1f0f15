"""Pictures of another kind than a network was trained on: how odd each is to it.

    from visionflows.evaluation.outliers import read_bank
    read_bank(model).oddness(features)         # over 1: of another kind

k nearest neighbours (Y. Sun, Y. Ming, X. Zhu, Y. Li, Out-of-distribution Detection with Deep
Nearest Neighbors, ICML 2022): an image is as odd as the k-th nearest of some training images is far
from it, between features of length 1. So that this costs a hundredth of what the network does,
images are told apart along the directions in which training images differ most (K. Pearson, 1901);
what of an image lies in none of them adds to its distance from all.

It takes numpy alone, and no BLAS of it: that would keep threads busy beside those that decode and
compute, and could give an image other last bits beside other images.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from visionflows.errors import ModelError, one_line
from visionflows.models.artifact import OUTLIERS, Model

K = 10  # of 1,000 images: bench/outliers.py has what others make of it
DIRECTIONS = 64


@dataclasses.dataclass(frozen=True)
class Bank:
    """Training images as a network sees them, float32.

    `centre` (features,) is their mean, `directions` (d, features) are those in which they differ
    most, `images` (n, d) where each is along them, and `lengths` (n,) its whole squared distance
    from the centre. `threshold` is the distance beyond which an image is of another kind.
    """

    centre: np.ndarray
    directions: np.ndarray
    images: np.ndarray
    lengths: np.ndarray
    k: int
    threshold: float = 1.0

    def outlier_score(self, features: np.ndarray) -> float:
        """How far the k-th nearest training image is from one with these features (features,).

        In thresholds: over 1 it is an outlier.
        """
        apart = _unit(features) - self.centre
        along = np.einsum("df,f->d", self.directions, apart)
        # |a - b|² = |a|² + |b|² - 2ab, where of ab only what lies along the directions is counted.
        squared = self.lengths - 2 * np.einsum("nd,d->n", self.images, along)
        nearest = np.partition(squared, self.k - 1)[self.k - 1]
        distance = math.sqrt(max(float(nearest + np.einsum("f,f->", apart, apart)), 0.0))
        return distance / self.threshold

    def saved(self) -> bytes:
        """What `restored` makes the same of: safetensors, in half the precision."""
        from safetensors.numpy import save

        # In C's order: save writes what lies in memory, whatever an array makes of it.
        return save({name: getattr(self, name).astype(np.float16, "C") for name in _TENSORS})


_TENSORS = ("centre", "directions", "images", "lengths")


def bank_of(features: np.ndarray, k: int = K, directions: int = DIRECTIONS) -> Bank:
    """The bank of some training images by their features (n, features), in half precision already.

    Of few images the k-th nearest is the third of them at most.
    """
    units = np.stack([_unit(one) for one in features]).astype(np.float64)
    centre = units.mean(0)
    apart = units - centre
    axes = np.linalg.svd(apart, full_matrices=False)[2][:directions]
    found = (centre, axes, apart @ axes.T, (apart**2).sum(1))
    halves = [one.astype(np.float16) for one in found]
    return _bank(halves, min(k, -(-len(features) // 3)), 1.0)


def restored(saved: bytes, k: int, threshold: float) -> Bank:
    """The bank that was saved. Raises ValueError where it was none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(saved)
        bank = _bank([tensors[name] for name in _TENSORS], k, threshold)
        (d, features), (n, width) = bank.directions.shape, bank.images.shape
    except (SafetensorError, KeyError) as error:
        raise ValueError("no bank") from error
    shapes = (d, (features,), (n,))
    if shapes != (width, bank.centre.shape, bank.lengths.shape) or not 0 < k <= n:
        raise ValueError("its parts do not fit")
    return bank


def read_bank(model: Model) -> Bank | None:
    """The bank of a model, None where it has none. Raises ModelError where it is no bank."""
    told = model.info.outliers
    if told is None or told.threshold is None:
        return None
    try:
        return restored(model.files.read(OUTLIERS), told.k, told.threshold)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{model.storage}/{OUTLIERS}: holds no bank of images ({one_line(str(error))}); publish "
            "the model again"
        ) from error


def threshold_of(outlier_score: np.ndarray, false_alarms: float) -> float:
    """The oddness that no more than that share of other images of the same kind has, on average.

    The smallest of (n,) that has so many below it that one image more would lie above it in at most
    that share of cases (V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World,
    2005: conformal prediction). With fewer than 1 / false_alarms - 1 images there is none that
    could say so, and it is the largest.
    """
    rank = math.ceil((len(outlier_score) + 1) * (1 - false_alarms))
    return float(np.sort(outlier_score)[min(rank, len(outlier_score)) - 1])


def _bank(halves: Sequence[np.ndarray], k: int, threshold: float) -> Bank:
    centre, directions, images, lengths = (one.astype(np.float32, "C") for one in halves)
    return Bank(centre, directions, images, lengths, k, threshold)


def _unit(features: np.ndarray) -> np.ndarray:
    """The same direction with length 1; features that are all zero stay."""
    own = np.ascontiguousarray(features)  # sums of strided numbers are taken in another order
    length = math.sqrt(float(np.einsum("f,f->", own, own)))
    unit: np.ndarray = own / np.float32(length or 1.0)
    return unit
