"""Grad-CAM: which parts of an image spoke for its label.

Selvaraju et al., ICCV 2017, https://arxiv.org/abs/1610.02391. The gradients are those of the
head, written out here, so that they need no torch. Occlusion (Zeiler & Fergus, ECCV 2014) takes 25
to 81 passes an image, and its maps of cats and dogs were coarser.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

_EPSILON = 1e-5  # of torch's BatchNorm1d
MIN_SIDE = 3  # a smaller map says nothing: that of an image of 32 pixels is 1 × 1
# fastai's head in an artifact's weights: two blocks of batch norm and linear, a ReLU between them.
_FIRST, _SECOND = ("1.2", "1.4"), ("1.6", "1.8")
_LINEAR = "1.2"  # the linear head, behind its pooling

Weights = Mapping[str, np.ndarray]
ByLogits = Callable[[np.ndarray, int], np.ndarray]


def heat_maps(
    features: np.ndarray, weights: Weights, classes: Sequence[int], multi_label: bool = False
) -> np.ndarray | None:
    """How much each part of an image spoke for its class: float32 (n, height, width), 0..1.

    `features` are the outputs of the network's body, (n, channels, height, width); `weights` are
    the artifact's, by name; `classes` has the class of each image. A part speaks for a class by
    its log-odds: with several labels a photo those are its logit. None for a body that pools by
    itself, and for maps below 3 × 3 (images of 64 pixels).
    """
    if features.ndim != 4 or min(features.shape[2:]) < MIN_SIDE:
        return None
    channels = features.shape[1]
    first, linear = (weights.get(f"{name}.weight") for name in (_FIRST[1], _LINEAR))
    if first is not None and first.shape[1] == 2 * channels:
        gradient = _fastai_gradient
    elif linear is not None and linear.shape[1:] == (channels,):
        gradient = _linear_gradient
    else:
        return None
    pairs = zip(features, classes, strict=True)
    by_logits = _by_own_logit if multi_label else _by_logits
    maps = [_map(one, gradient(one, weights, at, by_logits)) for one, at in pairs]
    return np.stack(maps).astype(np.float32)


def _map(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The heat of each position, by the gradient of the class by each channel's mean."""
    heat = np.maximum(np.tensordot(gradient / features[0].size, features, 1), 0)
    most = heat.max()
    return np.asarray(heat / most if most > 0 else heat)


def _linear_gradient(
    features: np.ndarray, weights: Weights, class_: int, by_logits: ByLogits
) -> np.ndarray:
    """The gradient of a class's log-odds by the mean of each channel."""
    weight, bias = weights[f"{_LINEAR}.weight"], weights[f"{_LINEAR}.bias"]
    return by_logits(weight @ features.mean((1, 2)) + bias, class_) @ weight


def _fastai_gradient(
    features: np.ndarray, weights: Weights, class_: int, by_logits: ByLogits
) -> np.ndarray:
    """The gradient of a class's log-odds by each channel: by its maximum and by its mean.

    That of the maximum is at one position, that of the mean is shared by all: the mean gradient
    over all positions is the same.
    """
    pooled = np.concatenate([features.max((1, 2)), features.mean((1, 2))])
    (scale, shift), first = _batch_norm(weights, _FIRST[0]), weights[f"{_FIRST[1]}.weight"]
    hidden = first @ (scale * pooled + shift)
    (scale_2, shift_2), second = _batch_norm(weights, _SECOND[0]), weights[f"{_SECOND[1]}.weight"]
    of_logits = by_logits(second @ (scale_2 * np.maximum(hidden, 0) + shift_2), class_)
    gradient = scale * (((of_logits @ second) * scale_2 * (hidden > 0)) @ first)
    return np.asarray(sum(np.split(gradient, 2)))


def _by_logits(logits: np.ndarray, class_: int) -> np.ndarray:
    """The gradient of a class's log-odds by the logits."""
    others = np.exp(logits - np.delete(logits, class_).max())
    others[class_] = 0
    gradient = -others / others.sum()
    gradient[class_] = 1
    return np.asarray(gradient)


def _by_own_logit(logits: np.ndarray, class_: int) -> np.ndarray:
    """The gradient of a class's log-odds by the logits if each class is by itself."""
    return np.asarray(np.eye(1, len(logits), class_)[0])


def _batch_norm(weights: Weights, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of a batch norm in evaluation mode."""
    deviation = np.sqrt(weights[f"{name}.running_var"] + np.float32(_EPSILON))
    scale = weights[f"{name}.weight"] / deviation
    return scale, weights[f"{name}.bias"] - scale * weights[f"{name}.running_mean"]
