"""Why an image got its label: where in it the network saw what spoke for that label.

    from visionflows.evaluation.gradcam import heat_maps
    heat_maps(features, weights, [1, 0])          # 0..1, (2, 7, 7)

Grad-CAM (Selvaraju et al., ICCV 2017, https://arxiv.org/abs/1610.02391). Its gradients are those of
fastai's head, which is small and always the same: they are written out here, so that a machine
without torch has them too. Occlusion (Zeiler & Fergus, ECCV 2014) needs no gradients and 25 to 81
passes an image; on photos of cats and dogs its maps were coarser, and led into corners.
"""

from collections.abc import Mapping, Sequence

import numpy as np

_EPSILON = 1e-5  # of torch's BatchNorm1d
LOCATIONS = (
    3  # a map has so many at least each way: a network of 32 pixels has one, which says nothing
)
# Of the head in a bundle's weights: two blocks of batch norm and linear, a ReLU between them.
_FIRST, _SECOND = ("1.2", "1.4"), ("1.6", "1.8")


def heat_maps(
    features: np.ndarray, weights: Mapping[str, np.ndarray], told: Sequence[int]
) -> np.ndarray | None:
    """How much each place of an image spoke for the label it got: float32 (n, height, width), 0..1.

    `features` is what the network's body makes of the images, (n, channels, height, width);
    `weights` are the bundle's, by name; `told` is the class of each image. What speaks for a class
    is its logit beside those of all others. None for a head that does not pool (its body does), and
    for maps of fewer than 3 × 3 places, as those of images of 64 pixels are.
    """
    first = weights.get(f"{_FIRST[1]}.weight")
    if features.ndim != 4 or min(features.shape[2:]) < LOCATIONS:
        return None
    if first is None or first.shape[1] != 2 * features.shape[1]:
        return None
    maps = [_map(one, weights, at) for one, at in zip(features, told, strict=True)]
    return np.stack(maps).astype(np.float32)


def _map(features: np.ndarray, weights: Mapping[str, np.ndarray], told: int) -> np.ndarray:
    by_maximum, by_mean = np.split(_gradient(features, weights, told), 2)
    # The mean over all places of the gradient: the maximum has it at one place, the mean everywhere
    # a share of it.
    importance = (by_maximum + by_mean) / features[0].size
    spoke = np.maximum(np.tensordot(importance, features, 1), 0)
    most = spoke.max()
    return np.asarray(spoke / most if most > 0 else spoke)


def _gradient(features: np.ndarray, weights: Mapping[str, np.ndarray], told: int) -> np.ndarray:
    """Of the log-odds of a class, by what the head is given: the maxima, then the means."""
    pooled = np.concatenate([features.max((1, 2)), features.mean((1, 2))])
    (factor, summand), first = _norm(weights, _FIRST[0]), weights[f"{_FIRST[1]}.weight"]
    hidden = first @ (factor * pooled + summand)
    (factor_2, summand_2), second = _norm(weights, _SECOND[0]), weights[f"{_SECOND[1]}.weight"]
    logits = second @ (factor_2 * np.maximum(hidden, 0) + summand_2)
    others = np.exp(logits - np.delete(logits, told).max())
    others[told] = 0
    wanted = -others / others.sum()
    wanted[told] = 1
    return np.asarray(factor * (((wanted @ second) * factor_2 * (hidden > 0)) @ first))


def _norm(weights: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The factor and the summand of a batch norm that no longer learns."""
    scale = np.sqrt(weights[f"{name}.running_var"] + np.float32(_EPSILON))
    factor = weights[f"{name}.weight"] / scale
    return factor, weights[f"{name}.bias"] - factor * weights[f"{name}.running_mean"]
