"""Confident learning finds wrong labels, and rarely right ones."""

import numpy as np
import pytest

from visionflows.evaluation.confident_learning import (
    FOLDS,
    OutOfFold,
    confident_labels,
    rank_issues_of_several,
    rank_label_issues,
)
from visionflows.label_sets import join_labels

CLASSES = ["cat", "dog", "fox"]


def clouds(each: int = 80, apart: float = 6.0) -> tuple[np.ndarray, list[str]]:
    """Features of three classes, `apart` deviations from each other, in 40 dimensions."""
    draws = np.random.default_rng(1)
    centres = np.zeros((3, 40))
    centres[[0, 1, 2], [0, 1, 2]] = apart
    features = np.concatenate([centre + draws.normal(size=(each, 40)) for centre in centres])
    return features, [name for name in CLASSES for _ in range(each)]


def disagreeing(labels: list[str], share: float) -> tuple[list[str], set[int]]:
    draws = np.random.default_rng(2)
    wrong = set(draws.choice(len(labels), round(share * len(labels)), replace=False).tolist())
    other = {"cat": "dog", "dog": "fox", "fox": "cat"}
    return [other[label] if at in wrong else label for at, label in enumerate(labels)], wrong


def test_wrong_labels_are_found_with_their_correct_class():
    features, labels = clouds()
    given, wrong = disagreeing(labels, 0.1)
    found = rank_label_issues(features, given, CLASSES)
    named = set(found["index"])
    assert len(named & wrong) >= 0.8 * len(wrong)
    assert len(named & wrong) >= 0.85 * len(named)
    hits = found[found["index"].isin(wrong)]
    right = [labels[at] for at in hits["index"]]
    assert (hits.label == right).mean() > 0.95
    assert list(found.was) == [given[at] for at in found["index"]]
    assert found.confidence.between(0, 1).all()


def test_issues_are_sorted_by_severity():
    features, labels = clouds()
    given, wrong = disagreeing(labels, 0.1)
    first = rank_label_issues(features, given, CLASSES)["index"][: len(wrong) // 2]
    assert set(first) <= wrong


def test_clear_classes_without_errors_have_no_issue():
    features, labels = clouds(apart=12)
    assert rank_label_issues(features, labels, CLASSES).empty


def test_a_class_of_too_few_images_is_left_out():
    features, labels = clouds()
    few = FOLDS - 1
    labels[:few] = ["owl"] * few
    found = rank_label_issues(features, labels, [*CLASSES, "owl"])
    assert not set(found["index"]) & set(range(few))
    assert "owl" not in set(found.label)


@pytest.mark.parametrize("labels", [["cat"] * 20, ["cat"] * 18 + ["dog"] * 2])
def test_a_single_class_has_no_issue(labels):
    features = np.random.default_rng(3).normal(size=(20, 6))
    assert rank_label_issues(features, labels, ["cat", "dog"]).empty


def out_of_fold_probabilities(features, given, groups=None) -> np.ndarray:
    found = np.empty((len(given), given.max() + 1))
    for images, probabilities in OutOfFold(features, given, groups).chunks():
        found[images] = probabilities
    return found


def test_images_of_a_group_do_not_predict_each_other():
    """With them, a group whose images all have the same wrong label hides it."""
    draws = np.random.default_rng(6)
    groups = np.repeat(np.arange(40), 5)
    features = draws.normal(size=(40, 128))[groups] + 0.01 * draws.normal(size=(200, 128))
    given = draws.integers(0, 2, 40)[groups]
    leaked, honest = (
        (out_of_fold_probabilities(features, given, each).argmax(1) == given).mean()
        for each in (None, groups)
    )
    assert leaked > 0.9
    assert 0.3 < honest < 0.7


def test_a_class_of_too_few_groups_is_left_out():
    features, labels = clouds()
    groups = np.arange(len(labels))
    groups[np.array(labels) == CLASSES[0]] = 0
    found = rank_label_issues(features, labels, CLASSES, groups)
    assert CLASSES[0] not in {*found.label, *found.was}


def test_the_confident_joint_by_hand():
    """Northcutt et al. (2021), equation 1: thresholds are mean self-confidences: 0.6, 0.7."""
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.35, 0.65], [0.25, 0.75]])
    given = np.array([0, 0, 0, 1, 1])
    # The fourth is below all thresholds, so its label stays.
    means = np.array([0.6, 0.7])
    assert confident_labels(probabilities, given, means).tolist() == [0, 1, 0, 1, 1]


def test_probabilities_are_out_of_fold():
    """Memorized noise does not help with an image that was left out."""
    features = np.random.default_rng(4).normal(size=(200, 128))
    given = np.random.default_rng(5).integers(0, 2, 200)
    probabilities = out_of_fold_probabilities(features, given)
    assert probabilities.shape == (200, 2)
    assert 0.35 < (probabilities.argmax(1) == given).mean() < 0.65
    assert (probabilities == out_of_fold_probabilities(features, given)).all()


def test_of_several_labels_a_missing_and_a_wrong_one_are_found():
    draws = np.random.default_rng(4)
    truth = draws.random((300, 3)) < 0.4
    features = 6.0 * truth @ np.eye(3, 40) + draws.normal(size=(300, 40))
    given = truth.copy()
    wrong = draws.choice(300, 15, replace=False)
    given[wrong, wrong % 3] ^= True
    texts, right = (
        [join_labels(np.array(CLASSES)[row]) for row in each] for each in (given, truth)
    )
    found = rank_issues_of_several(features, texts, CLASSES, np.arange(300))
    named = {*found["index"]}
    assert len(named & {*wrong}) >= 10
    assert len(named & {*wrong}) >= 0.7 * len(named)
    hits = found[found["index"].isin(wrong)]
    assert (hits.label == [right[at] for at in hits["index"]]).mean() > 0.9
    assert [*found.was] == [texts[at] for at in found["index"]]
    assert found.confidence.between(0.5, 1).all()
    few = rank_issues_of_several(features[:FOLDS], texts[:FOLDS], CLASSES, np.arange(FOLDS))
    assert few.empty
