"""The evidence for reduced precision: the comparison, and the measurement on a real network."""

import dataclasses

import numpy as np
import pytest

from visionflows.engine import EngineSettings, make_engine
from visionflows.images.open import MAX_PIXELS
from visionflows.model.bundle import load
from visionflows.model.registry import find
from visionflows.training.agreement import agreement, compare


def rows(*first: float) -> np.ndarray:
    return np.array([[value, 1 - value] for value in first])


def test_faster_is_taken_where_labels_agree_and_flips_are_near_ties():
    exact = rows(*[0.9] * 399, 0.52)
    fast = rows(*[0.91] * 399, 0.49)
    found = compare(exact, fast)
    assert (found["labels"], found["flips"], found["far_flips"]) == (0.9975, 1, 0)
    assert found["largest_difference"] == pytest.approx(0.03)
    assert found["auto"] == "bfloat16"


def test_faster_is_refused_where_too_many_labels_flip_or_one_flips_far():
    many = compare(rows(*[0.9] * 98, 0.51, 0.51), rows(*[0.9] * 98, 0.49, 0.49))
    assert (many["labels"], many["auto"]) == (0.98, "float32")
    far = compare(rows(*[0.9] * 999, 0.8), rows(*[0.9] * 999, 0.4))
    assert (far["far_flips"], far["auto"]) == (1, "float32")
    none = np.zeros((0, 2))
    assert compare(none, none)["auto"] == "float32"


def test_a_real_network_is_measured_where_bfloat16_is_native(trained):
    model = load(find("shapes", trained.store))
    valid = trained.table[trained.table.is_valid]
    found = agreement(model, trained.dataset, list(valid.path), MAX_PIXELS)
    if "labels" not in found:
        assert found["auto"] == "float32"
        pytest.skip("this processor does not compute bfloat16 natively")
    assert found["images"] == len(valid)
    assert found["largest_difference"] < 0.05
    # `auto` takes what model.json has evidence for, and nothing else.
    assert make_engine(model, EngineSettings()).precision == "float32"
    info = model.info.with_agreement({"auto": "bfloat16"})
    model = dataclasses.replace(model, info=info)
    assert make_engine(model, EngineSettings()).precision == "bfloat16"
    assert make_engine(model, EngineSettings(precision="float32")).precision == "float32"
