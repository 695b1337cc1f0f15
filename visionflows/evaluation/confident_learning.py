"""Which labels of a training set are probably wrong: confident learning.

    from visionflows.evaluation.confident_learning import suspects
    suspects(features, labels, classes)              # a row a suspect, the worst first

C. Northcutt, L. Jiang and I. Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels,
JAIR 70 (2021). Each image is judged by a logistic regression that has not seen it, of features
that a network gives. An image is a suspect where a class other than its own is as likely as it
is, on average, for those that are labelled so (their confident joint, off the diagonal); all of
these are named, in the order of the normalised margin.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5
COMPONENTS = 128  # of the features: more learn single images, and cost memory


def label_issues(
    features: np.ndarray, labels: Sequence[str], classes: Sequence[str]
) -> "pd.DataFrame":
    """The images whose label is probably wrong: index (of `features`), label, was, confidence.

    `features` are float (n, any), `labels` one each; `label` is the suggested one, `was` the given
    one, `confidence` the probability of the suggested one. The least likely labels come first.
    Classes with fewer images than FOLDS are not judged, and no image is taken for one of theirs.
    """
    import pandas as pd

    counts = Counter(labels)
    known = [name for name in classes if counts[name] >= FOLDS]
    judged = np.flatnonzero(np.isin(np.array(labels, dtype=object), known))
    if len(known) < 2:
        return pd.DataFrame(columns=["index", "label", "was", "confidence"])
    given = np.array([known.index(labels[at]) for at in judged.tolist()])
    probabilities = out_of_sample(features[judged], given)
    other = confident_of(probabilities, given)
    found = np.flatnonzero(other != given)
    chosen = probabilities[found, other[found]]
    worst = np.argsort(probabilities[found, given[found]] - chosen, kind="stable")
    found, chosen = found[worst], chosen[worst]
    return pd.DataFrame(
        {
            "index": judged[found],
            "label": [known[at] for at in other[found].tolist()],
            "was": [known[at] for at in given[found].tolist()],
            "confidence": chosen,
        }
    )


def out_of_sample(features: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The probability of each class, float (n, classes), of images that a fold has not learnt."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(features.astype(np.float32))
    main = PCA(min(COMPONENTS, *scaled.shape), svd_solver="randomized", random_state=0)
    found = main.fit_transform(scaled)
    # Of length 1 in the mean square, so that the strength of the regression (scikit-learn's own)
    # means the same whatever the network: seen, ten times more or less told labels less well.
    found /= max(float(np.sqrt((found**2).sum(1).mean())), 1e-12)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    answers = np.zeros((len(found), given.max() + 1))
    for others, these in folds.split(found, given):
        model = LogisticRegression(C=1.0, max_iter=300).fit(found[others], given[others])
        answers[these] = model.predict_proba(found[these])
    return answers


def confident_of(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The class each image confidently is, int (n,): the given one where it is no other.

    A class is confident where its probability is at least the mean that it has among images that
    are labelled so; of several, the likeliest counts.
    """
    classes = probabilities.shape[1]
    usual = np.array([probabilities[given == at, at].mean() for at in range(classes)])
    confident = np.where(probabilities >= usual, probabilities, -1.0)
    return np.where((confident > -1).any(1), confident.argmax(1), given)
