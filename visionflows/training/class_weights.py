"""Class weights: how much an image counts in training, by the number of images of its class."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from visionflows.training.settings import Balance

# Powers of the inverse frequency. With 1 every class weighs the same; the square root is between.
_POWERS = {"none": 0.0, "sqrt": 0.5, "full": 1.0}


def class_weights(labels: "pd.Series[str]", classes: Sequence[str], balance: Balance) -> np.ndarray:
    """Return the weight of each class, float (classes,), for the labels of the training images.

    The mean over all images is 1. A class without images has weight 0.
    """
    counts = labels.value_counts().reindex(list(classes), fill_value=0).to_numpy(float)
    known = counts > 0
    weights = np.zeros(len(counts))
    weights[known] = counts[known] ** -_POWERS[balance]
    return np.asarray(weights * counts.sum() / (weights * counts).sum())
