"""Linear probe: multinomial logistic regression on features of the frozen network.

Cross-validation chooses the strength of its regularisation. Features are standardised, which is
folded into the weights, so that the probe is one linear layer.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from visionflows.evaluation.metrics import log_losses

# scikit-learn's C: the smaller, the stronger the regularisation. On features of ImageNet networks
# and 500 to 2,000 images the best ones are from 0.001 to 0.1 (bench/results, recipes).
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
DEFAULT = 1e-2  # with too few images to choose
FOLDS = 4
MAX_IMAGES = 20_000  # that choose the strength; the fit uses all
MAX_ITERATIONS = 200
UNKNOWN = 10.0  # by how much the logit of a class without training images is lower


class Sample(NamedTuple):
    """Features (n, features) with their class, group and weight, each (n,).

    Images of a group are near-duplicates, or belong together by the user's rule.
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
    from sklearn.model_selection import StratifiedGroupKFold

    if len(sample.targets) > MAX_IMAGES:
        rng = np.random.default_rng(0)
        sample = sample.at(rng.choice(len(sample.targets), MAX_IMAGES, replace=False))
    if len(np.unique(sample.groups)) < FOLDS or np.bincount(sample.targets).max() < FOLDS:
        return DEFAULT
    losses = np.zeros(len(STRENGTHS))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than folds
        sides = list(folds.split(sample.features, sample.targets, sample.groups))
    for train, test in sides:
        losses += _losses(sample.at(train), sample.at(test))
    return STRENGTHS[int(losses.argmin())]


def _losses(train: Sample, test: Sample) -> np.ndarray:
    """Return the weighted log loss of the test side for each strength."""
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
    weight, bias = np.zeros((classes, sample.features.shape[1])), np.full(classes, -np.inf)
    known = np.unique(sample.targets)
    weight[known], bias[known] = fitted.weight, fitted.bias
    bias[np.isinf(bias)] = bias[known].min() - UNKNOWN
    return LinearProbe(weight, bias)


def _fit_all(sample: Sample, strengths: Sequence[float]) -> Iterator[LinearProbe]:
    """Yield the probe of each strength, with a row for each class that has images."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(sample.features)
    scaled = scaler.transform(sample.features)
    model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    for strength in strengths:
        model.set_params(C=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # near enough, after so many
            model.fit(scaled, sample.targets, sample.weights)
        weight = model.coef_ / scaler.scale_
        bias = model.intercept_ - weight @ scaler.mean_
        if len(bias) == 1:  # of two classes scikit-learn fits the difference
            weight, bias = (np.concatenate([-one, one]) / 2 for one in (weight, bias))
        yield LinearProbe(weight, bias)
