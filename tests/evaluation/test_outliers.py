"""Outlier detection: the distance of the paper, independent of the batch, few false alarms."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save

from visionflows.errors import ModelError
from visionflows.evaluation.outliers import (
    conformal_threshold,
    fit_detector,
    load_detector,
    read_detector,
)
from visionflows.models.artifact import OUTLIERS, load_model
from visionflows.models.registry import find_model


def drawn(count: int, seed: int, features: int = 96, inner: int = 12) -> np.ndarray:
    """Features with large variance in few directions and little in all others."""
    ways = np.random.default_rng(0).normal(size=(inner, features))
    draws = np.random.default_rng(seed)
    found = 3 + draws.normal(size=(count, inner)) @ ways + draws.normal(0, 0.3, (count, features))
    return found.astype(np.float32)


def test_the_distance_is_that_of_the_kth_nearest_normalized_features():
    images, others = drawn(300, 1), drawn(50, 2)
    bank = fit_detector(images, k=7, components=96)  # all components
    units, ours = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (images, others))
    expected = np.sort(np.linalg.norm(ours[:, None] - units[None], axis=2), axis=1)[:, 6]
    assert [bank.outlier_score(one) for one in others] == pytest.approx(expected, rel=0.01)
    assert [bank.outlier_score(one * 5) for one in others] == pytest.approx(expected, rel=0.01)


def test_the_residual_detects_outliers_outside_the_components():
    images, other = drawn(500, 1), np.random.default_rng(3).normal(3, 3, (50, 96))
    asked = [*drawn(50, 2), *other.astype(np.float32)]
    few, all_ = (fit_detector(images, components=number) for number in (12, 96))
    exact = [all_.outlier_score(one) for one in asked]
    assert [few.outlier_score(one) for one in asked] == pytest.approx(exact, rel=0.1)


def test_a_score_does_not_depend_on_the_batch():
    bank, images = fit_detector(drawn(300, 1)), drawn(64, 2)
    alone = [bank.outlier_score(one.copy()) for one in images]
    assert alone == [bank.outlier_score(one) for one in images]
    assert alone == [bank.outlier_score(one) for one in np.asfortranarray(images)]
    shifted = np.zeros(64 * 96 + 1, np.float32)[1:].reshape(64, 96)  # at another memory address
    shifted[:] = images
    assert alone == [bank.outlier_score(one) for one in shifted]


@pytest.mark.parametrize("wanted", [0.02, 0.05])
def test_false_alarms_are_as_rare_as_requested(wanted):
    alarms = []
    for seed in range(200):
        draws = np.random.default_rng(seed)
        threshold = conformal_threshold(draws.gamma(3, size=100), wanted)
        alarms.append((draws.gamma(3, size=2000) > threshold).mean())
    assert np.mean(alarms) == pytest.approx(wanted, abs=0.006)
    assert np.mean(alarms) < wanted + 0.003


def test_the_largest_of_too_few_scores_is_the_threshold():
    assert conformal_threshold(np.array([1.0, 3.0, 2.0]), 0.02) == 3.0


def test_equal_and_zero_features_are_no_division_by_zero():
    bank = fit_detector(np.zeros((30, 8), np.float32))
    assert bank.outlier_score(np.zeros(8, np.float32)) == 0
    assert bank.outlier_score(np.ones(8, np.float32)) == pytest.approx(1)


def test_k_is_smaller_for_few_images():
    assert fit_detector(drawn(12, 1)).k == 4


def test_a_loaded_detector_gives_the_same_scores():
    images, others = np.asfortranarray(drawn(300, 1)), drawn(50, 2)
    bank = fit_detector(images, components=12)
    back = load_detector(bank.to_bytes(), bank.k, 0.5)
    assert [back.outlier_score(one) for one in others] == [
        2 * bank.outlier_score(one) for one in others
    ]


def test_the_published_detector_is_read(outlier_store):
    model = load_model(find_model("outlier-model", outlier_store))
    bank = read_detector(model)
    assert bank.threshold == model.info.outliers.threshold
    assert len(bank.images) == model.info.outliers.images == 135
    assert bank.to_bytes() == model.files.read(OUTLIERS)
    assert bank.outlier_score(np.ones_like(bank.centre)) > 0


@pytest.mark.parametrize("what", ["another file", "rows missing", "no such tensor"])
def test_an_invalid_detector_is_refused_in_one_line(outlier_store, what, tmp_path):
    from visionflows.storage import open_storage

    model = load_model(find_model("outlier-model", outlier_store))
    bank = read_detector(model)
    tensors = {
        "another file": b"PK no tensors",
        "rows missing": dataclasses.replace(bank, images=bank.images[1:]).to_bytes(),
        "no such tensor": save({"centre": bank.centre}),
    }
    open_storage(tmp_path).write(OUTLIERS, tensors[what])
    with pytest.raises(ModelError, match=f"{OUTLIERS}: cannot be used"):
        read_detector(dataclasses.replace(model, copy=open_storage(tmp_path)))


def test_a_model_without_a_detector_has_none(trained):
    assert read_detector(load_model(find_model("shapes", trained.store))) is None
