"""Label issues: images whose label is probably wrong, by confident learning.

C. Northcutt, L. Jiang and I. Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels,
JAIR 70 (2021). A logistic regression predicts each image, by a network's features, from folds
without it. An image is an issue if another class is as likely as it is, on average, for images with
that label (off the diagonal of the confident joint). Issues are ordered by normalised margin.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5
COMPONENTS = 128  # of the features: with more, the regression learns single images


def rank_label_issues(
    features: np.ndarray,
    labels: Sequence[str],
    classes: Sequence[str],
    groups: np.ndarray | None = None,
) -> "pd.DataFrame":
    """The images whose label is probably wrong: index (of `features`), label, was, confidence.

    `features` are float (n, any), with one of `labels` each. `label` is the suggested label, `was`
    the given one, and `confidence` the probability of the suggested one. The least likely given
    labels come first. Images with the same number in `groups` (n,) are in one fold. Classes with
    fewer images, or groups, than FOLDS are left out.
    """
    import pandas as pd

    names = range(len(labels)) if groups is None else groups.tolist()
    counts = Counter(label for label, _ in {*zip(labels, names, strict=True)})
    known = [name for name in classes if counts[name] >= FOLDS]
    usable = np.flatnonzero(np.isin(np.array(labels, dtype=object), known))
    if len(known) < 2:
        return pd.DataFrame(columns=["index", "label", "was", "confidence"])
    given = np.array([known.index(labels[at]) for at in usable.tolist()])
    folds_of = None if groups is None else groups[usable]
    probabilities = out_of_fold_probabilities(features[usable], given, folds_of)
    suggested = confident_labels(probabilities, given)
    issues = np.flatnonzero(suggested != given)
    confidence = probabilities[issues, suggested[issues]]
    order = np.argsort(probabilities[issues, given[issues]] - confidence, kind="stable")
    issues, confidence = issues[order], confidence[order]
    return pd.DataFrame(
        {
            "index": usable[issues],
            "label": [known[at] for at in suggested[issues].tolist()],
            "was": [known[at] for at in given[issues].tolist()],
            "confidence": confidence,
        }
    )


def out_of_fold_probabilities(
    features: np.ndarray, given: np.ndarray, groups: np.ndarray | None = None
) -> np.ndarray:
    """The probability of each class, float (n, classes), of images not seen in training.

    Nor was another image with the same number in `groups` (n,).
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(features.astype(np.float32))
    pca = PCA(min(COMPONENTS, *scaled.shape), svd_solver="randomized", random_state=0)
    reduced = pca.fit_transform(scaled)
    # Scaled to a mean square length of 1, so that C means the same for every network. Ten times
    # more or less C found fewer wrong labels.
    reduced /= max(float(np.sqrt((reduced**2).sum(1).mean())), 1e-12)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = kind(FOLDS, shuffle=True, random_state=0)
    model = LogisticRegression(C=1.0, max_iter=300)
    probabilities: np.ndarray = cross_val_predict(
        model, reduced, given, groups=groups, cv=folds, method="predict_proba"
    )
    return probabilities


def confident_labels(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The confident class of each image, int (n,); the given one if no class is confident.

    A class is confident if its probability is at least its mean among the images with that label;
    of several, the most likely counts.
    """
    classes = probabilities.shape[1]
    means = np.array([probabilities[given == at, at].mean() for at in range(classes)])
    confident = np.where(probabilities >= means, probabilities, -1.0)
    return np.where((confident > -1).any(1), confident.argmax(1), given)
