"""Class weights: by the inverse frequency, with a mean of 1 over all images."""

import numpy as np
import pandas as pd
import pytest

from visionflows.training.class_weights import class_weights

COUNTS = np.array([300, 30, 10, 0])
LABELS = pd.Series(np.repeat(list("abcd"), COUNTS))


def weights_for(balance: str) -> np.ndarray:
    return class_weights(LABELS, "abcd", balance)


@pytest.mark.parametrize("balance", ["none", "sqrt", "full"])
def test_the_mean_over_all_images_is_one(balance):
    weights = weights_for(balance)
    assert (weights * COUNTS).sum() == pytest.approx(COUNTS.sum())
    assert weights[3] == 0


def test_none_weighs_all_images_alike_and_full_all_classes():
    assert weights_for("none")[:3] == pytest.approx(1)
    totals = (weights_for("full") * COUNTS)[:3]
    assert totals == pytest.approx(totals[0])


def test_sqrt_is_between():
    ratios = {name: (w := weights_for(name))[2] / w[0] for name in ("sqrt", "full")}
    assert ratios["full"] == pytest.approx(30)
    assert ratios["sqrt"] == pytest.approx(30**0.5)
