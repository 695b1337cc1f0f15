"""Training in half the bytes: bfloat16 or float16 where the processor or the GPU has it natively.

    from visionflows.training.mixed import mixed_precision
    mixed_precision(learn, settings)         # "bfloat16"; what model.json says of it

Weights, their sums and the loss stay float32 (https://docs.pytorch.org/docs/stable/amp.html).
"""

import functools
import os
from typing import TYPE_CHECKING

from visionflows.engine.torch import bfloat16_kernel
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    from fastai.callback.core import Callback
    from fastai.learner import Learner


def mixed_precision(learn: "Learner", settings: TrainSettings) -> str:
    """What a learner computes in from now on: bfloat16, float16, or none, which is float32."""
    device = learn.dls.device
    native = bool(bfloat16_kernel(device))
    if settings.precision == "float32" or not (native or device.type == "cuda"):
        return "none"
    if device.type == "cuda":
        if native:
            learn.to_bf16()
            return "bfloat16"
        learn.to_fp16()
        return "float16"
    from fastai.callback.channelslast import ChannelsLast

    # oneDNN's bfloat16 convolutions want images whose channels come last.
    learn.add_cbs([ChannelsLast(), _on_cpu()("bf16")])
    return "bfloat16"


def huge_pages() -> None:
    """Let torch ask for huge pages, where it has allocated nothing yet.

    A network of many small layers spends half of its time on page faults otherwise: seen with
    tf_efficientnet_lite0, 1.6 times the images a second.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


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

    return MixedPrecisionOnCpu
