"""Mixed precision on a CPU: only with native bfloat16, and the same error within noise."""

import pytest
import torch
from conftest import LEARNING, SMALL

from visionflows.inference import torch_network
from visionflows.inference.torch_network import bfloat16_kernel
from visionflows.training import mixed_precision
from visionflows.training.fine_tune import fine_tune
from visionflows.training.learner import make_learner
from visionflows.training.settings import TrainSettings

CPU = torch.device("cpu")
native = pytest.mark.skipif(
    torch.cuda.is_available() or not bfloat16_kernel(CPU),
    reason="a GPU, or a processor without native bfloat16",
)


def types_of(learn, layer: int) -> list[torch.dtype]:
    """The output types of the first convolution in the next epochs, and the losses."""
    seen = []
    first = next(part for part in learn.model.modules() if isinstance(part, torch.nn.Conv2d))
    hook = first.register_forward_hook(lambda part, given, answer: seen.append(answer.dtype))
    with learn.no_bar(), learn.no_logging():
        learn.fit(layer)
    hook.remove()
    return seen


@native
def test_native_bfloat16_is_used_and_weights_and_losses_stay_float32(trained):
    learn = make_learner(trained.table, trained.dataset, TrainSettings(**SMALL))
    assert mixed_precision.enable_mixed_precision(learn, TrainSettings(**SMALL)) == "bfloat16"
    assert set(types_of(learn, 1)) == {torch.bfloat16}
    assert learn.recorder.losses[0].dtype == torch.float32
    assert {value.dtype for value in learn.model.parameters()} == {torch.float32}
    assert not torch.is_autocast_enabled("cpu")


@native
def test_depthwise_convolutions_compute_in_float32_during_training_only(
    trained,
):
    settings = TrainSettings(**SMALL | {"architecture": "mobilenet_v2"})
    learn = make_learner(trained.table, trained.dataset, settings)
    mixed_precision.enable_mixed_precision(learn, settings)
    given = {True: set(), False: set()}
    layers = [part for part in learn.model.modules() if isinstance(part, torch.nn.Conv2d)]
    for layer in layers:
        took = given[layer.groups > 1]
        inner = type(layer)._conv_forward.__get__(layer)
        layer._conv_forward = lambda images, *rest, took=took, inner=inner: (
            took.add((images.dtype, torch.is_autocast_enabled("cpu"))) or inner(images, *rest)
        )
    answers = set()
    hooks = [layer.register_forward_hook(lambda *of: answers.add(of[2].dtype)) for layer in layers]
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    assert given[True] == {(torch.float32, False)}
    assert all(autocast for _, autocast in given[False])
    assert answers == {torch.bfloat16}  # the next layers compute in it
    assert len(hooks) == len(layers)
    assert not any("forward" in vars(layer) for layer in layers)


def test_float32_is_float32(trained):
    settings = TrainSettings(**SMALL, precision="float32")
    learn = make_learner(trained.table, trained.dataset, settings)
    assert mixed_precision.enable_mixed_precision(learn, settings) == "none"
    assert set(types_of(learn, 1)) == {torch.float32}


def test_a_processor_without_bfloat16_trains_in_float32(trained, monkeypatch):
    monkeypatch.setattr(torch_network, "bfloat16_kernel", lambda device: "")
    learn = make_learner(trained.table, trained.dataset, TrainSettings(**SMALL))
    if learn.dls.device.type == "cpu":
        assert mixed_precision.enable_mixed_precision(learn, TrainSettings(**SMALL)) == "none"


@native
@pytest.mark.slow
def test_the_record_has_the_precision_and_the_error_is_within_noise(trained, tmp_path):
    errors = {}
    for precision in ("auto", "float32"):
        settings = TrainSettings(**SMALL, **LEARNING | {"epochs": 15, "precision": precision})
        record = fine_tune(trained.table, trained.dataset, tmp_path / precision, settings)
        errors[record["mixed_precision"]] = min(row["error_rate"] for row in record["history"])
    assert set(errors) == {"bfloat16", "none"}
    assert abs(errors["bfloat16"] - errors["none"]) <= 3.01 / 18
