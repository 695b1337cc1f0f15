"""Linear probe: multinomial logistic regression on features of the frozen network.

With several labels a photo it is a logistic regression of each class by itself (one-vs-rest).
Cross-validation chooses the strength of its regularisation. Features are standardised, which is
folded into the weights, so that the probe is one linear layer.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from visionflows.datasets.stratify import IMAGES, stratify
from visionflows.evaluation.label_metrics import label_log_losses
from visionflows.evaluation.metrics import log_losses

# scikit-learn's C: the smaller, the stronger the regularisation. On features of ImageNet networks
# and 500 to 2,000 images the best ones are from 0.001 to 0.1 (bench/results, recipes).
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
DEFAULT = 1e-2  # with too few images to choose
FOLDS = 4
MAX_IMAGES = 20_000  # that choose the strength; the fit uses all
MAX_CELLS = 400_000  # images times classes that do, with several labels: hundreds of regressions
MAX_ITERATIONS = 200
UNKNOWN = 10.0  # by how much the logit of a class without training images is lower


class Sample(NamedTuple):
    """Features (n, features) with their class, group and weight, each (n,).

    With several labels, targets are bool (n, classes), and weights have no effect. Images of a
    group are near-duplicates, or belong together by the user's rule.
    """

    features: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    weights: np.ndarray

    def at(self, rows: np.ndarray) -> "Sample":
        """The sample of these rows."""
        return Sample(*(array[rows] for array in self))


class LinearProbe(NamedTuple):
    """Weights (classes, features) and biases (classes,) of a linear layer."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the logits, float (n, classes), of features (n, features)."""
        return np.asarray(features @ self.weight.T + self.bias)


def choose_strength(sample: Sample) -> float:
    """Return the strength with the lowest cross-validated log loss.

    Groups are on one side of every fold. An image counts if its class is on the other side too.
    """
    most = MAX_CELLS // sample.targets.shape[1] if sample.targets.ndim > 1 else MAX_IMAGES
    if len(sample.targets) > most:
        rng = np.random.default_rng(0)
        sample = sample.at(rng.choice(len(sample.targets), most, replace=False))
    losses = [_losses(sample.at(train), sample.at(test)) for train, test in _folds(sample)]
    return STRENGTHS[int(np.sum(losses, 0).argmin())] if losses else DEFAULT


def out_of_fold(sample: Sample, strength: float) -> np.ndarray | None:
    """Return the logits of several labels (n, classes), each image's by a probe without it.

    None if there are too few images for folds.
    """
    logits, classes = np.zeros(sample.targets.shape), sample.targets.shape[1]
    folds = _folds(sample)
    for train, test in folds:
        logits[test] = fit_probe(sample.at(train), strength, classes).logits(sample.features[test])
    return logits if folds else None


def _folds(sample: Sample) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows of both sides of each fold; nothing if there are too few images."""
    from sklearn.model_selection import StratifiedGroupKFold

    if sample.targets.ndim > 1:
        return _label_folds(sample)
    if len(np.unique(sample.groups)) < FOLDS or np.bincount(sample.targets).max() < FOLDS:
        return []
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than folds
        return list(folds.split(sample.features, sample.targets, sample.groups))


def _label_folds(sample: Sample) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the same for several labels: folds with the same share of every class."""
    groups, at = np.unique(sample.groups, return_inverse=True)
    units = [Counter[str]() for _ in groups]
    for group, row in zip(at.tolist(), sample.targets, strict=True):
        units[group].update([IMAGES, *map(str, np.flatnonzero(row))])
    fold = np.array(stratify(units, [1 / FOLDS] * FOLDS))[at]
    sides = [(np.flatnonzero(fold != one), np.flatnonzero(fold == one)) for one in range(FOLDS)]
    return sides if all(len(test) for _, test in sides) else []


def _losses(train: Sample, test: Sample) -> np.ndarray:
    """Return the weighted log loss of the test side for each strength."""
    if train.targets.ndim > 1:
        probes = _fit_all(train, STRENGTHS)
        each = (label_log_losses(one.logits(test.features), test.targets) for one in probes)
        return np.array([losses.sum() for losses in each])
    classes = np.unique(train.targets)
    known = test.at(np.isin(test.targets, classes))
    if len(classes) < 2 or not len(known.targets):
        return np.zeros(len(STRENGTHS))
    columns = np.searchsorted(classes, known.targets)
    logits = (probe.logits(known.features) for probe in _fit_all(train, STRENGTHS))
    return np.array([known.weights @ log_losses(one, columns) for one in logits])


def fit_probe(sample: Sample, strength: float, classes: int) -> LinearProbe:
    """Return the probe of all images in the sample; a class without images is never predicted."""
    fitted = next(_fit_all(sample, (strength,)))
    if sample.targets.ndim > 1:
        return fitted
    weight, bias = np.zeros((classes, sample.features.shape[1])), np.full(classes, -np.inf)
    known = np.unique(sample.targets)
    weight[known], bias[known] = fitted.weight, fitted.bias
    bias[np.isinf(bias)] = bias[known].min() - UNKNOWN
    return LinearProbe(weight, bias)


def _fit_all(sample: Sample, strengths: Sequence[float]) -> Iterator[LinearProbe]:
    """Yield the probe of each strength, with a row for each class that has images.

    With several labels each class has a row; one that all images or none have is constant.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(sample.features)
    scaled = sample._replace(features=scaler.transform(sample.features))
    fit = _fit_classes if sample.targets.ndim == 1 else _fit_labels
    for weight, bias in fit(scaled, strengths):
        weight = weight / scaler.scale_
        yield LinearProbe(weight, bias - weight @ scaler.mean_)


def _fit_classes(sample: Sample, strengths: Sequence[float]) -> Iterator[LinearProbe]:
    model = _regression()
    for strength in strengths:
        _fit(model, strength, sample.features, sample.targets, sample.weights)
        weight, bias = model.coef_, model.intercept_
        if len(bias) == 1:  # of two classes scikit-learn fits the difference
            weight, bias = (np.concatenate([-one, one]) / 2 for one in (weight, bias))
        yield LinearProbe(weight, bias)


def _fit_labels(sample: Sample, strengths: Sequence[float]) -> Iterator[LinearProbe]:
    classes, constant = sample.targets.shape[1], sample.targets.all(0)
    models = {at: _regression() for at in np.flatnonzero(sample.targets.any(0) & ~constant)}
    for strength in strengths:
        weight = np.zeros((classes, sample.features.shape[1]))
        bias = np.where(constant, UNKNOWN, -UNKNOWN)
        for at, model in models.items():
            _fit(model, strength, sample.features, sample.targets[:, at])
            weight[at], bias[at] = model.coef_[0], model.intercept_[0]
        yield LinearProbe(weight, bias)


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)


def _fit(model: Any, strength: float, *data: np.ndarray) -> None:
    from sklearn.exceptions import ConvergenceWarning

    model.set_params(C=strength)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough, after so many
        model.fit(*data)
