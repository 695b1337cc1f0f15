"""How often a candidate that is no better is promoted: it should be in at most 5 of 100 pairs.

    python bench/promotion.py --pairs 1000

Each pair is two linear probes of the handwritten digits of scikit-learn, trained alike: on as many
images, drawn from the same set. Both predict the same validation images, and the tests of `retrain`
decide: McNemar's for the error rate, the randomization test for balanced accuracy and macro F1.
`--labels` does the same for several labels a photo: an image is the sum of one to three digits, its
labels are these digits, and the tests are of mean average precision, micro F1 and macro F1.
Models that are trained alike are not equally good, least of all with few images. So a third part of
the images, which no test sees, tells how many promotions were of a candidate that is no better
there. As a control, one series has candidates with five times the training images.
"""

import argparse

import numpy as np
from record import versions, write_result

from visionflows.evaluation.label_metrics import label_summary
from visionflows.evaluation.paired_test import (
    ALPHA,
    Predictions,
    label_randomization_test,
    randomization_test,
)
from visionflows.reports.comparison import MCNEMAR_ALPHA, mcnemar_test
from visionflows.training.linear_probe import Sample, fit_probe

CLASSES = 10
STRENGTH = 1e-2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--train", type=int, nargs="+", default=[100, 600])
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--labels", action="store_true", help="several labels a photo")
    parser.add_argument("--results", default="bench/results")
    options = parser.parse_args()
    result: dict = {"versions": versions("numpy", "scikit-learn"), "settings": vars(options)}
    series = [(count, count) for count in options.train] + [
        (options.train[0], 5 * options.train[0])
    ]
    for counts in series:
        rng = np.random.default_rng(22)
        one_pair = compare_labels if options.labels else compare
        pairs = [one_pair(rng, options.test, counts) for _ in range(options.pairs)]
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


def compare_labels(rng: np.random.Generator, tested: int, counts: tuple[int, int]) -> dict:
    """The same for models that give several labels."""
    images, targets = sums_of_digits(rng, 2 * tested + 5 * max(counts))
    both = np.arange(2 * tested)
    found = []
    for count in counts:
        train = rng.choice(np.arange(2 * tested, len(images)), count, replace=False)
        sample = Sample(images[train], targets[train], np.arange(count), np.ones(count))
        logits = fit_probe(sample, STRENGTH, CLASSES).logits(images[both])
        found.append(Predictions(logits >= 0, logits))
    production, candidate = found
    promoted = {}
    for metric in ("mean_average_precision", "micro_f1", "macro_f1"):
        pair = (Predictions(*(each[:tested] for each in one)) for one in (candidate, production))
        test = label_randomization_test(*pair, targets[:tested], metric)
        unseen = [
            label_summary(one.labels[tested:], targets[both][tested:], one.scores[tested:])[metric]
            for one in (candidate, production)
        ]
        promoted[metric] = test.p_value <= ALPHA
        promoted[f"{metric}, no better"] = promoted[metric] and unseen[0] <= unseen[1]
    return promoted


def sums_of_digits(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 64), each the sum of one to three digits, and which digits it has."""
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    chosen = rng.integers(0, len(digits), (count, 3))
    used = np.arange(3) < rng.integers(1, 4, (count, 1))
    images = (pixels[chosen] / 16 * used[..., None]).sum(1)
    targets = (np.eye(CLASSES, dtype=bool)[digits[chosen]] & used[..., None]).any(1)
    return images, targets


if __name__ == "__main__":
    main()
