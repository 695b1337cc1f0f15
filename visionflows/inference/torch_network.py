"""A network computed by torch, on a CPU or a GPU, at a precision.

    from visionflows.inference.torch_network import TorchNetwork
    network = TorchNetwork(model, torch.device("cpu"), "float32", batch_size=16)
    network.answers(pixels)          # probabilities, and more, of uint8 (n, side, side, 3)

What streams files through it is in visionflows.inference.torch_cpu and visionflows.inference.cuda.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np

from visionflows.inference.engine import Answers, log
from visionflows.models.artifact import Model, network_of
from visionflows.models.network import folded, opened
from visionflows.models.schema import Normalise

if TYPE_CHECKING:
    import torch
    from torch import nn

LIBRARIES = ("torch", "torchvision")


class TorchNetwork:
    """A model's network on a device; `kernel` says whose convolutions: others round otherwise."""

    kernel = "eager"
    _body: "Callable[[torch.Tensor], torch.Tensor]"
    _pool: "Callable[[torch.Tensor], torch.Tensor]"
    _head: "Callable[[torch.Tensor], torch.Tensor]"

    def __init__(
        self,
        model: Model,
        device: "torch.device",
        precision: str,
        batch_size: int,
        compiled: bool = False,
    ):
        import torch

        self.device, self.chunk = device, batch_size
        self._dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        self._scale, self._shift = _normalisation(model.info.normalise, device)
        self._ready(cast("nn.Sequential", network_of(model)), compiled)

    def answers(self, pixels: np.ndarray, features: bool = False) -> Answers:
        """What it says of uint8 pixels (n, side, side, 3), with `features` if they are wanted."""
        import torch

        with torch.inference_mode():
            told = self.forward(torch.from_numpy(pixels).to(self.device))
            return Answers(*(one.cpu().numpy() for one in told[: 1 + features]))

    def forward(self, pixels: "torch.Tensor") -> "list[torch.Tensor]":
        """Probabilities and features, float32, of uint8 pixels (n, side, side, 3) on the device.

        Running out of GPU memory halves what is computed at once, and goes on.
        """
        import torch

        while True:
            try:
                parts = [self._answers(part) for part in pixels.split(self.chunk)]
                return [torch.cat(some) for some in zip(*parts, strict=True)]
            except torch.cuda.OutOfMemoryError:
                if self.chunk == 1:
                    raise
                self.chunk //= 2
                torch.cuda.empty_cache()
                log.warning("out of GPU memory: going on with %d images at once", self.chunk)

    def _answers(self, pixels: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        # NHWC is channels_last already. To 0..1, minus mean, over deviation, in two passes.
        images = pixels.permute(0, 3, 1, 2).float().mul_(self._scale).add_(self._shift)
        features = self._pool(self._body(images.to(self._dtype)).float())
        return self._head(features).softmax(1), features

    def _ready(self, network: "nn.Sequential", compiled: bool) -> None:
        """Put the body at its precision on the device, the head in float32.

        The head is a thousandth of the work, and rounding its few logits to bfloat16 would flip
        more labels than rounding all that comes before.
        """
        import torch

        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
            torch.backends.cudnn.allow_tf32 = False
        body, head = network
        body = folded(body).to(  # type: ignore[call-overload]  # torch's types lack this call
            self.device, self._dtype, memory_format=torch.channels_last
        )
        body.requires_grad_(False)
        if compiled:
            body = cast("nn.Module", torch.compile(body, dynamic=False))
            self.kernel = "compiled"
        pool, head = opened(cast("nn.Sequential", head.to(self.device).requires_grad_(False)))
        self._body, self._pool, self._head = body, pool, head


def _normalisation(
    normalise: Normalise, device: "torch.device"
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """The factor and the summand of a pixel value, a channel each."""
    import torch

    mean, deviation = (
        torch.tensor(values, device=device).view(1, 3, 1, 1)
        for values in (normalise.mean, normalise.std)
    )
    return 1 / (255 * deviation), -mean / deviation


def bfloat16_kernel(device: "torch.device") -> str:
    """What computes bfloat16 natively on a device; empty where it would go by way of float32.

    `torch avx512_bf16`, `torch amx_bf16` (which oneDNN prefers where a processor has both), or
    `cuda sm_90`.
    """
    import torch

    if device.type == "cuda":
        native = bool(torch.cuda.is_bf16_supported(including_emulation=False))
        return "cuda sm_{}{}".format(*torch.cuda.get_device_capability(device)) if native else ""
    if not torch.cpu._is_avx512_bf16_supported():
        return ""
    return "torch amx_bf16" if torch.cpu._is_amx_tile_supported() else "torch avx512_bf16"
