"""How often a candidate that is no better is promoted: it should be in at most 5 of 100 pairs.

    python bench/promotion.py --pairs 1000

Each pair is two linear probes of the handwritten digits of scikit-learn, trained alike: on as many
images, drawn from the same set. Both predict the same validation images, and the tests of `retrain`
decide: McNemar's for the error rate, the randomization test for balanced accuracy and macro F1.
Models that are trained alike are not equally good, least of all with few images. So a third part of
the images, which no test sees, tells how many promotions were of a candidate that is no better
there. As a control, one series has candidates with five times the training images.
"""

import argparse

import numpy as np
from record import versions, write_result

from visionflows.evaluation.paired_test import ALPHA, randomization_test
from visionflows.reports.comparison import MCNEMAR_ALPHA, mcnemar_test
from visionflows.training.linear_probe import Sample, fit_probe

CLASSES = 10
STRENGTH = 1e-2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--train", type=int, nargs="+", default=[100, 600])
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--results", default="bench/results")
    options = parser.parse_args()
    result: dict = {"versions": versions("numpy", "scikit-learn"), "settings": vars(options)}
    series = [(count, count) for count in options.train] + [
        (options.train[0], 5 * options.train[0])
    ]
    for counts in series:
        rng = np.random.default_rng(22)
        pairs = [compare(rng, options.test, counts) for _ in range(options.pairs)]
        result["production {}, candidate {} images".format(*counts)] = {
            name: sum(pair[name] for pair in pairs) / len(pairs) for name in pairs[0]
        }
    write_result(result, options.results, "promotion")


def compare(rng: np.random.Generator, tested: int, counts: tuple[int, int]) -> dict:
    """Whether each test promotes the candidate of a new pair, and one that is no better."""
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    order = rng.permutation(len(targets))
    test, unseen, pool = np.split(order, [tested, 2 * tested])
    both = np.concatenate([test, unseen])
    production, candidate = (
        predict(pixels, targets, rng.choice(pool, count, replace=False), both) for count in counts
    )
    right = candidate == targets[both], production == targets[both]
    is_better = right[0][tested:].sum() > right[1][tested:].sum()
    only = [int((one & ~other)[:tested].sum()) for one, other in (right, right[::-1])]
    p_values = {"error_rate": mcnemar_test(*only)}
    for metric in ("balanced_accuracy", "macro_f1"):
        each = (one[:tested] for one in (candidate, production, targets[both]))
        p_values[metric] = randomization_test(*each, CLASSES, metric)[2]
    promoted = {
        metric: p_value <= (MCNEMAR_ALPHA if metric == "error_rate" else ALPHA)
        for metric, p_value in p_values.items()
    }
    return promoted | {
        f"{name}, no better": one and not is_better for name, one in promoted.items()
    }


def predict(
    pixels: np.ndarray, targets: np.ndarray, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """The classes that a probe of the training images predicts for the others."""
    each = np.arange(len(train))
    sample = Sample(pixels[train] / 16, targets[train], each, np.ones(len(train)))
    return fit_probe(sample, STRENGTH, CLASSES).logits(pixels[test] / 16).argmax(1)


if __name__ == "__main__":
    main()
