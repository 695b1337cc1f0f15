"""Label agreement with float32: the comparison, and a measurement on a real network."""

import dataclasses
from importlib import metadata

import numpy as np
import pandas as pd
import pytest
import torch
from model_infos import model_info
from scipy.stats import binomtest

from visionflows.inference import EngineSettings, make_engine
from visionflows.inference.precision_policy import choose_precision, images_needed, is_supported
from visionflows.models.artifact import load_model
from visionflows.models.metrics_schema import Agreement
from visionflows.models.registry import find_model
from visionflows.models.schema import ModelInfo
from visionflows.reports.rendering import describe
from visionflows.training.evidence.label_agreement import (
    MAX_IMAGES,
    compare_probabilities,
    measure_label_agreement,
    sample_images,
)


def rows(*first: float) -> np.ndarray:
    return np.array([[value, 1 - value] for value in first])


def test_agreeing_labels_and_near_ties_support_the_faster_precision():
    exact = rows(*[0.9] * 1599, 0.52)
    fast = rows(*[0.91] * 1599, 0.49)
    found = compare_probabilities(exact, fast)
    assert (found["labels"], found["disagreements"], found["far_disagreements"]) == (0.999375, 1, 0)
    assert found["largest_difference"] == pytest.approx(0.03)
    assert found["auto"] == "bfloat16"
    assert "why" not in found


def test_many_disagreements_or_a_large_one_do_not_support_it():
    many = compare_probabilities(rows(*[0.9] * 98, 0.51, 0.51), rows(*[0.9] * 98, 0.49, 0.49))
    assert (many["labels"], many["auto"]) == (0.98, "float32")
    far = compare_probabilities(rows(*[0.9] * 1999, 0.8), rows(*[0.9] * 1999, 0.4))
    assert (far["far_disagreements"], far["auto"]) == (1, "float32")
    assert far["why"] == "a label differs that was no near tie"
    none = np.zeros((0, 2))
    assert compare_probabilities(none, none)["auto"] == "float32"


@pytest.mark.parametrize("images, disagreements", [(3, 0), (597, 0), (946, 1), (400, 1)])
def test_too_few_images_are_no_evidence_and_the_reason_names_the_number_needed(
    images, disagreements
):
    sure = [0.9] * (images - disagreements)
    found = compare_probabilities(
        rows(*sure, *[0.51] * disagreements), rows(*sure, *[0.49] * disagreements)
    )
    assert (found["images"], found["disagreements"], found["auto"]) == (
        images,
        disagreements,
        "float32",
    )
    assert "do not show that 99.5% agree, at 95% confidence" in found["why"]
    assert found["why"].endswith(f"that takes {(598, 947)[disagreements]}")


def test_the_bound_is_that_of_clopper_and_pearson():
    for disagreements, least in enumerate((598, 947, 1258, 1549, 1829)):
        assert images_needed(disagreements) == least
        bounds = [
            binomtest(disagreements, images, alternative="less").proportion_ci(0.95, "exact").high
            for images in (least - 1, least)
        ]
        assert bounds[0] > 0.005 >= bounds[1]
    assert images_needed(2000) > 400_000  # computed fast for any number


def info_with(found: dict, name: str = "agreement") -> ModelInfo:
    """A model.json with this evidence."""
    return model_info().with_agreement(found, name)


KERNELS = ("openvino avx512_bf16", "openvino amx_bf16", "torch amx_bf16", "cuda sm_90")


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("measured", KERNELS)
@pytest.mark.parametrize("here", [*KERNELS, ""])
def test_evidence_counts_only_for_its_kernel(measured, here, precision):
    def supported(**other) -> bool:
        found = {"auto": precision, "images": 700, "disagreements": 0, "kernel": measured} | other
        name = {"bfloat16": "agreement", "int8": "int8"}[precision]
        return is_supported(info_with(found, name), precision, here)

    assert supported() is (measured == here)
    assert not supported(images=3)
    assert not supported(auto="float32")
    assert not supported(images=10**400)  # implausible
    assert not supported(kernel="")


def test_the_fastest_supported_precision_is_used():
    kernels = {"int8": "openvino avx512_vnni", "bfloat16": "openvino avx512_bf16"}
    enough = {"images": 700, "disagreements": 0}
    half = enough | {"auto": "bfloat16", "kernel": kernels["bfloat16"]}
    eighth = enough | {"auto": "int8", "kernel": kernels["int8"]}
    both = info_with(half).with_agreement(eighth, "int8")
    assert choose_precision(both, "auto", kernels) == "int8"
    assert choose_precision(both, "auto", kernels | {"int8": ""}) == "bfloat16"
    assert choose_precision(info_with(half), "auto", kernels) == "bfloat16"
    assert choose_precision(both, "auto", {}) == "float32"
    assert choose_precision(info_with({"auto": "float32"}), "int8", kernels) == "int8"


def test_training_images_are_used_without_enough_validation_images():
    def table(valid: int, train: int) -> pd.DataFrame:
        sides = [True] * valid + [False] * train
        sha256 = [f"{number % (valid + train):064x}" for number in range(2 * len(sides))]
        made = pd.DataFrame({"is_valid": sides * 2, "sha256": sha256, "status": "ok"})
        return made.assign(path=made.index.astype(str))

    some = sample_images(table(100, 500))
    assert (len(some), int(some.is_valid.sum())) == (600, 100)  # all images, each content once
    assert some.is_valid.iloc[:100].all()
    assert len(sample_images(table(700, 5000))) == MAX_IMAGES
    assert sample_images(table(2500, 100)).is_valid.all()


def test_a_real_network_is_measured_with_native_bfloat16(trained):
    model = load_model(find_model("shapes", trained.store))
    valid = trained.table[trained.table.is_valid]
    found = measure_label_agreement(model, valid, trained.dataset)
    if "labels" not in found:
        assert found["auto"] == "float32"
        pytest.skip("this processor does not compute bfloat16 natively")
    assert found["images"] == len(valid)
    assert found["largest_difference"] < 0.05
    assert found["kernel"] == make_engine(model, EngineSettings()).kernels["bfloat16"]
    assert found["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    library = "torch" if torch.cuda.is_available() else "openvino"
    assert found["library"] == f"{library} {metadata.version(library)}"
    assert found["auto"] == "float32"  # eighteen images are too few
    # `auto` uses only a precision that model.json has evidence for.
    assert make_engine(model, EngineSettings()).precision == "float32"
    enough = found | {"auto": "bfloat16", "images": 598, "disagreements": 0}
    model = dataclasses.replace(model, info=model.info.with_agreement(enough))
    assert make_engine(model, EngineSettings()).precision == "bfloat16"
    assert make_engine(model, EngineSettings(precision="float32")).precision == "float32"
    elsewhere = model.info.with_agreement(enough | {"kernel": "another"})
    model = dataclasses.replace(model, info=elsewhere)
    assert make_engine(model, EngineSettings()).precision == "float32"


def test_the_agreement_of_a_checkpoint_counts_training_images(trained, evaluated):
    found = measure_label_agreement(evaluated, trained.table, trained.dataset)
    if "labels" not in found:
        pytest.skip("this processor does not compute bfloat16 natively")
    assert (found["images"], found["trained_on"]) == (72, 54)
    assert (found["auto"], "that takes" in found["why"]) == ("float32", True)
    page = describe("agreement", Agreement.model_validate(found))
    assert "54 of the images are training images" in page
    assert f"Measured with {found['kernel']}" in page
    assert page.startswith(f"Default precision is float32 because {found['why']}. ")
