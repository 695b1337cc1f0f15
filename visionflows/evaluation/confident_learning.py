"""Label issues: images whose label is probably wrong, by confident learning.

C. Northcutt, L. Jiang and I. Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels,
JAIR 70 (2021). A logistic regression predicts each image, by a network's features, from folds
without it. An image is an issue if another class is as likely as it is, on average, for images with
that label (off the diagonal of the confident joint). Issues are ordered by normalised margin.

Of several labels, each class is judged by itself, against all images without it, and the worst
decision is an image's rank: A. Thyagarajan, E. Snorrason, C. Northcutt and J. Mueller, Identifying
Incorrect Annotations in Multi-Label Classification Data, arXiv:2211.13895 (2022).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from visionflows.label_sets import indicators, join_labels

FOLDS = 5
MAX_CELLS = 50_000_000  # images times classes that logistic regression gets: 1 GB, and minutes
CHUNK_CELLS = 4_000_000  # of probabilities in memory
COMPONENTS = 128  # of the features: with more, the regression learns single images


def rank_label_issues(
    features: np.ndarray,
    labels: Sequence[str],
    classes: Sequence[str],
    groups: np.ndarray | None = None,
) -> pd.DataFrame:
    """The images whose label is probably wrong: index (of `features`), label, was, confidence.

    `features` are float (n, any), with one of `labels` each. `label` is the suggested label, `was`
    the given one, and `confidence` the probability of the suggested one. The least likely given
    labels come first. Images with the same number in `groups` (n,) are in one fold. Classes with
    fewer images, or groups, than FOLDS are left out.
    """
    sides = range(len(labels)) if groups is None else groups.tolist()
    counts = Counter(label for label, _ in {*zip(labels, sides, strict=True)})
    known = pd.Index([name for name in classes if counts[name] >= FOLDS], dtype=object)
    if len(known) < 2:
        return pd.DataFrame(columns=["index", "label", "was", "confidence"])
    given = known.get_indexer(pd.Index(labels, dtype=object))
    usable = np.flatnonzero(given >= 0)
    given = given[usable]
    folds_of = None if groups is None else groups[usable]
    predicted = OutOfFold(features[usable], given, folds_of)
    suggested, own, confidence = _suggestions(predicted)
    found = pd.DataFrame({"index": usable, "label": known[suggested], "was": known[given]})
    issues = found.assign(confidence=confidence, margin=own - confidence)[suggested != given]
    ranked: pd.DataFrame = issues.sort_values("margin", kind="stable", ignore_index=True)
    return ranked.drop(columns="margin")


def rank_issues_of_several(
    features: np.ndarray, texts: Sequence[str], classes: Sequence[str], groups: np.ndarray
) -> pd.DataFrame:
    """As `rank_label_issues`, of images with several labels, joined as by `join_labels`.

    `confidence` is the probability of the suggested decision that is least likely to be right as
    given. Classes that fewer images, or groups, than FOLDS have or lack are left out.
    """
    given, reduced = indicators(texts, classes), _reduce(features)
    suggested, margins = given.copy(), np.zeros(len(given))
    confidence = np.zeros(len(given))
    for at, has_class in enumerate(given.T):
        if min(len({*groups[has_class]}), len({*groups[~has_class]})) < FOLDS:
            continue
        found, own, likely = _suggestions(OutOfFold(reduced, has_class.astype(int), groups, True))
        suggested[:, at] = found.astype(bool)
        is_worse = (found != has_class) & (own - likely < margins)
        margins[is_worse] = (own - likely)[is_worse]
        confidence[is_worse] = likely[is_worse]
    issues = np.flatnonzero((suggested != given).any(1))
    issues = issues[np.argsort(margins[issues], kind="stable")]
    labels = [join_labels(np.array(classes, object)[suggested[index]]) for index in issues]
    was = [texts[index] for index in issues.tolist()]
    cells = {"index": issues, "label": labels, "was": was, "confidence": confidence[issues]}
    return pd.DataFrame(cells)


class OutOfFold:
    """Probabilities of each class for images that were not seen in training.

    Nor was another image with the same number in `groups` (n,). With so many images and classes
    that logistic regression takes too long, linear discriminant analysis predicts.
    """

    def __init__(
        self,
        features: np.ndarray,
        given: np.ndarray,
        groups: np.ndarray | None = None,
        is_reduced: bool = False,
    ):
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

        self.given, self.classes = given, int(given.max()) + 1
        self._reduced = features if is_reduced else _reduce(features)
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        folds = kind(FOLDS, shuffle=True, random_state=0)
        self._parts = [
            (self._fit(train), test) for train, test in folds.split(self._reduced, given, groups)
        ]

    def _fit(self, train: np.ndarray) -> Any:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.linear_model import LogisticRegression

        is_large = len(self.given) * self.classes > MAX_CELLS
        model = (
            LinearDiscriminantAnalysis() if is_large else LogisticRegression(C=1.0, max_iter=300)
        )
        return model.fit(self._reduced[train], self.given[train])

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Indices of images, and the probability of each class for them, float (any, classes)."""
        size = max(CHUNK_CELLS // self.classes, 1)
        for model, test in self._parts:
            for at in range(0, len(test), size):
                images = test[at : at + size]
                probabilities = np.zeros((len(images), self.classes))
                probabilities[:, model.classes_] = model.predict_proba(self._reduced[images])
                yield images, probabilities


def _reduce(features: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(features.astype(np.float32))
    pca = PCA(min(COMPONENTS, *scaled.shape), svd_solver="randomized", random_state=0)
    reduced: np.ndarray = pca.fit_transform(scaled)
    # Scaled to a mean square length of 1, so that C means the same for every network. Ten times
    # more or less C found fewer wrong labels.
    return reduced / max(float(np.sqrt((reduced**2).sum(1).mean())), 1e-12)


def _suggestions(predicted: OutOfFold) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The suggested class of each image, and the probabilities of its own and the suggested one."""
    given = predicted.given
    own = np.zeros(len(given))
    for images, probabilities in predicted.chunks():
        own[images] = probabilities[np.arange(len(images)), given[images]]
    means = np.bincount(given, own) / np.bincount(given)
    suggested, confidence = given.copy(), own.copy()
    for images, probabilities in predicted.chunks():
        suggested[images] = confident_labels(probabilities, given[images], means)
        confidence[images] = probabilities[np.arange(len(images)), suggested[images]]
    return suggested, own, confidence


def confident_labels(probabilities: np.ndarray, given: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The confident class of each image, int (n,); the given one if no class is confident.

    A class is confident if its probability is at least its mean among the images with that label,
    in `means` (classes,); of several, the most likely counts.
    """
    confident = np.where(probabilities >= means, probabilities, -1.0)
    return np.where((confident > -1).any(1), confident.argmax(1), given)
