"""The linear probe: scikit-learn's logistic regression as one linear layer."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from visionflows.evaluation.metrics import log_losses
from visionflows.training.linear_probe import (
    DEFAULT,
    FOLDS,
    STRENGTHS,
    Sample,
    choose_strength,
    fit_probe,
)


def sample(classes: int, images: int = 120, noise: float = 3.0, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    features = rng.normal(3, 2, (images, 10)).astype(np.float32)
    scores = features @ rng.normal(size=(10, classes)) + rng.normal(0, noise, (images, classes))
    scores -= scores.mean(0)
    return Sample(features, scores.argmax(1), np.arange(images), np.ones(images))


def probabilities(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def regression(strength: float):
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


@pytest.mark.parametrize("classes", [2, 4])
def test_the_layer_gives_the_probabilities_of_scikit_learn(classes):
    data = sample(classes)
    probe = fit_probe(data, 0.03, classes)
    wanted = regression(0.03).fit(data.features, data.targets).predict_proba(data.features)
    assert probabilities(probe.logits(data.features)) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("noise", [0.5, 20.0])
def test_cross_validation_chooses_the_strength_with_the_lowest_log_loss(noise):
    data = sample(3, noise=noise)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    losses = [
        log_loss(
            data.targets,
            cross_val_predict(
                regression(strength),
                data.features,
                data.targets,
                groups=data.groups,
                cv=folds,
                method="predict_proba",
            ),
        )
        for strength in STRENGTHS
    ]
    assert choose_strength(data) == STRENGTHS[int(np.argmin(losses))]


def test_copies_of_an_image_do_not_make_a_weak_regularisation_look_good():
    few = sample(2, images=40, noise=50)
    copies = Sample(*(np.concatenate([values] * 4) for values in few))
    apart = Sample(copies.features, copies.targets, np.arange(160), copies.weights)
    assert choose_strength(copies) < choose_strength(apart)


def test_a_class_without_training_images_is_never_predicted():
    data = sample(3)
    probe = fit_probe(data.at(data.targets != 1), 0.1, 3)
    assert 1 not in probe.logits(data.features).argmax(1)
    assert np.isfinite(probe.bias).all()


def test_weights_count_as_repeated_images():
    data = sample(2)
    weights = np.where(data.targets == 1, 3.0, 1.0)
    weighted = fit_probe(Sample(data.features, data.targets, data.groups, weights), 0.03, 2)
    plain = fit_probe(data, 0.03, 2)
    assert (weighted.logits(data.features).argmax(1) == 1).sum() > (
        plain.logits(data.features).argmax(1) == 1
    ).sum()


def test_too_few_images_get_the_default_strength():
    data = sample(2, images=3)
    assert choose_strength(data) == DEFAULT


def test_log_losses_are_those_of_the_softmax():
    logits = np.array([[2.0, 0.0, -1.0], [1000.0, 0.0, 0.0]])
    wanted = -np.log(probabilities(logits)[[0, 1], [1, 0]])
    assert log_losses(logits, np.array([1, 0])) == pytest.approx(wanted)
