"""Mixed precision: train in bfloat16 or float16 where the processor or GPU supports it natively.

Weights, accumulated sums and the loss stay float32
(https://docs.pytorch.org/docs/stable/amp.html). Import this module inside functions only, as
fastai takes seconds to import.
"""

import functools
from collections.abc import Iterator

import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.fp16 import MixedPrecision
from fastai.learner import Learner

from visionflows.training.settings import TrainSettings


def enable_mixed_precision(learn: Learner, settings: TrainSettings) -> str:
    """Set up a learner's precision and return it: bfloat16, float16, or none for float32."""
    from visionflows.inference.torch_network import bfloat16_kernel

    device = learn.dls.device
    native = bool(bfloat16_kernel(device))
    if device.type == "cpu":
        # oneDNN's convolutions are faster with channels last, most of all in bfloat16.
        learn.add_cb(ChannelsLast())
    if settings.precision == "float32" or not (native or device.type == "cuda"):
        return "none"
    if device.type == "cpu":
        learn.add_cb(MixedPrecisionOnCpu("bf16"))
    elif native:
        learn.to_bf16()
    else:
        learn.to_fp16()
    return "bfloat16" if native else "float16"


class MixedPrecisionOnCpu(MixedPrecision):  # type: ignore[misc]  # fastai has no types
    """fastai's callback, which only supports GPUs; bfloat16 needs no scaled gradients."""

    def before_fit(self) -> None:
        self.autocast = torch.autocast("cpu", torch.bfloat16)
        self.learn.scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.scales: list[float] = []
        for layer in _depthwise_layers(self.learn.model):
            layer.forward = functools.partial(_forward_float32, layer)  # type: ignore[method-assign]

    def after_fit(self) -> None:
        super().after_fit()
        for layer in _depthwise_layers(self.learn.model):
            vars(layer).pop("forward", None)


def _depthwise_layers(network: torch.nn.Module) -> Iterator[torch.nn.Conv2d]:
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.groups == layer.in_channels > 1:
            yield layer


def _forward_float32(layer: torch.nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    """Compute a depthwise convolution in float32 and return it in the type of the input.

    oneDNN computes their gradients slowly in bfloat16: 1.3 s of a 1.7 s step of
    tf_efficientnet_lite0 with 32 images; 0.35 s in float32.
    """
    with torch.autocast("cpu", enabled=False):
        result = type(layer).forward(layer, images.float())
    return result.to(images.dtype)
