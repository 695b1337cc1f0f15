"""Training in half the bytes: bfloat16 or float16 where the processor or the GPU has it natively.

    from visionflows.training.mixed_precision import enable_mixed_precision
    enable_mixed_precision(learn, settings)         # "bfloat16"; what model.json says of it

Weights, their sums and the loss stay float32 (https://docs.pytorch.org/docs/stable/amp.html).
"""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from visionflows.inference.torch_network import bfloat16_kernel
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch
    from fastai.callback.core import Callback
    from fastai.learner import Learner


def enable_mixed_precision(learn: "Learner", settings: TrainSettings) -> str:
    """What a learner computes in from now on: bfloat16, float16, or none, which is float32."""
    device = learn.dls.device
    native = bool(bfloat16_kernel(device))
    if device.type == "cpu":
        from fastai.callback.channelslast import ChannelsLast

        # oneDNN's convolutions want images whose channels come last, in bfloat16 most of all.
        learn.add_cb(ChannelsLast())
    if settings.precision == "float32" or not (native or device.type == "cuda"):
        return "none"
    if device.type == "cpu":
        learn.add_cb(_on_cpu()("bf16"))
    elif native:
        learn.to_bf16()
    else:
        learn.to_fp16()
    return "bfloat16" if native else "float16"


@functools.cache
def _on_cpu() -> "type[Callback]":
    import torch
    from fastai.callback.fp16 import MixedPrecision

    class MixedPrecisionOnCpu(MixedPrecision):  # type: ignore[misc]  # fastai has no types
        """fastai's, which knows GPUs alone; bfloat16 needs no scaled gradients anywhere."""

        def before_fit(self) -> None:
            self.autocast = torch.autocast("cpu", torch.bfloat16)
            self.learn.scaler = torch.amp.GradScaler("cpu", enabled=False)
            self.scales: list[float] = []
            for layer in _depthwise(self.learn.model):
                layer.forward = functools.partial(_in_float32, layer)  # type: ignore[method-assign]

        def after_fit(self) -> None:
            super().after_fit()
            for layer in _depthwise(self.learn.model):
                vars(layer).pop("forward", None)

    return MixedPrecisionOnCpu


def _depthwise(network: "torch.nn.Module") -> "Iterator[torch.nn.Conv2d]":
    from torch.nn import Conv2d

    for layer in network.modules():
        if isinstance(layer, Conv2d) and layer.groups == layer.in_channels > 1:
            yield layer


def _in_float32(layer: "torch.nn.Conv2d", images: "torch.Tensor") -> "torch.Tensor":
    """What a depthwise convolution gives, computed in float32 and returned as it was asked.

    oneDNN has no fast gradients of them in bfloat16: 1.7 s of a step of tf_efficientnet_lite0
    and 32 images were 1.3 s of these; in float32 they are 0.35 s.
    """
    import torch

    with torch.autocast("cpu", enabled=False):
        answer = type(layer).forward(layer, images.float())
    return answer.to(images.dtype)
