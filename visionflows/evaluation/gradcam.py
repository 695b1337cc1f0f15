"""Grad-CAM: which parts of an image spoke for its label.

Selvaraju et al., ICCV 2017, https://arxiv.org/abs/1610.02391. The gradients are those of fastai's
head, written out here, so that they need no torch. Occlusion (Zeiler & Fergus, ECCV 2014) takes 25
to 81 passes an image, and its maps of cats and dogs were coarser.
"""

from collections.abc import Mapping, Sequence

import numpy as np

_EPSILON = 1e-5  # of torch's BatchNorm1d
MIN_SIDE = 3  # a smaller map says nothing: that of an image of 32 pixels is 1 × 1
# The head in an artifact's weights: two blocks of batch norm and linear, a ReLU between them.
_FIRST, _SECOND = ("1.2", "1.4"), ("1.6", "1.8")


def heat_maps(
    features: np.ndarray, weights: Mapping[str, np.ndarray], classes: Sequence[int]
) -> np.ndarray | None:
    """How much each part of an image spoke for its class: float32 (n, height, width), 0..1.

    `features` are the outputs of the network's body, (n, channels, height, width); `weights` are
    the artifact's, by name; `classes` has the class of each image. A part speaks for a class by
    its log-odds. None for a body that pools by itself, and for maps below 3 × 3 (images of 64
    pixels).
    """
    first = weights.get(f"{_FIRST[1]}.weight")
    if features.ndim != 4 or min(features.shape[2:]) < MIN_SIDE:
        return None
    if first is None or first.shape[1] != 2 * features.shape[1]:
        return None
    maps = [_map(one, weights, at) for one, at in zip(features, classes, strict=True)]
    return np.stack(maps).astype(np.float32)


def _map(features: np.ndarray, weights: Mapping[str, np.ndarray], class_: int) -> np.ndarray:
    by_maximum, by_mean = np.split(_gradient(features, weights, class_), 2)
    # The mean gradient over all positions: that of the maximum is at one position, that of the mean
    # is shared by all.
    importance = (by_maximum + by_mean) / features[0].size
    heat = np.maximum(np.tensordot(importance, features, 1), 0)
    most = heat.max()
    return np.asarray(heat / most if most > 0 else heat)


def _gradient(features: np.ndarray, weights: Mapping[str, np.ndarray], class_: int) -> np.ndarray:
    """The gradient of a class's log-odds by the head's inputs: the maxima, then the means."""
    pooled = np.concatenate([features.max((1, 2)), features.mean((1, 2))])
    (scale, shift), first = _batch_norm(weights, _FIRST[0]), weights[f"{_FIRST[1]}.weight"]
    hidden = first @ (scale * pooled + shift)
    (scale_2, shift_2), second = _batch_norm(weights, _SECOND[0]), weights[f"{_SECOND[1]}.weight"]
    logits = second @ (scale_2 * np.maximum(hidden, 0) + shift_2)
    others = np.exp(logits - np.delete(logits, class_).max())
    others[class_] = 0
    by_logits = -others / others.sum()
    by_logits[class_] = 1
    return np.asarray(scale * (((by_logits @ second) * scale_2 * (hidden > 0)) @ first))


def _batch_norm(weights: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of a batch norm in evaluation mode."""
    deviation = np.sqrt(weights[f"{name}.running_var"] + np.float32(_EPSILON))
    scale = weights[f"{name}.weight"] / deviation
    return scale, weights[f"{name}.bias"] - scale * weights[f"{name}.running_mean"]
