"""A network computed by torch, on a CPU or a GPU, in float32 or bfloat16; and the CPU's engine.

The engine is for models without model.onnx, and for machines without OpenVINO.
"""

from typing import cast

import numpy as np
import torch
from torch import nn

from visionflows.inference.cpu_streams import StreamsEngine, pad_batch
from visionflows.inference.engine import EngineSettings, Outputs, log
from visionflows.models.artifact import Model, load_network
from visionflows.models.network import activate, fold_batch_norm, split_pooling
from visionflows.models.schema import Normalise

LIBRARIES = ("torch", "torchvision")


class TorchNetwork:
    """A model's network on a device; `kernel` names whose convolutions run."""

    kernel = "eager"

    def __init__(
        self,
        model: Model,
        device: torch.device,
        precision: str,
        batch_size: int,
        compiled: bool = False,
    ):
        self.device, self.chunk = device, batch_size
        self._dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        self._multi_label = model.info.multi_label
        constants = scale_and_shift(model.info.normalise)
        self._scale, self._shift = (one.to(device) for one in constants)
        self._prepare(cast(nn.Sequential, load_network(model)), compiled)

    def predict(self, pixels: np.ndarray, features: bool = False) -> Outputs:
        """The outputs for uint8 pixels (n, side, side, 3), with `features` if requested."""
        with torch.inference_mode():
            tensors = self.forward(torch.from_numpy(pixels).to(self.device))
            return Outputs(*(one.cpu().numpy() for one in tensors[: 1 + features]))

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Probabilities and features, float32, of uint8 pixels (n, side, side, 3) on the device.

        When GPU memory runs out, the batch is halved and computed again.
        """
        while True:
            try:
                parts = [self._outputs(part) for part in pixels.split(self.chunk)]
                return [torch.cat(some) for some in zip(*parts, strict=True)]
            except torch.cuda.OutOfMemoryError:
                if self.chunk == 1:
                    raise
                self.chunk //= 2
                torch.cuda.empty_cache()
                log.warning("out of GPU memory: continuing with %d images at once", self.chunk)

    def _outputs(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # NHWC is channels_last. Scale to 0..1 and normalise in two passes.
        images = pixels.permute(0, 3, 1, 2).float().mul_(self._scale).add_(self._shift)
        features = self._pool(self._body(images.to(self._dtype)).float())
        return activate(self._head(features), self._multi_label), features

    def _prepare(self, network: nn.Sequential, compiled: bool) -> None:
        """Move the body to the device in its precision, and the head in float32.

        The head is a thousandth of the work, and rounding its few logits to bfloat16 would change
        more labels than rounding the whole body.
        """
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
            torch.backends.cudnn.allow_tf32 = False
        body, head = network
        body = fold_batch_norm(body).to(  # type: ignore[call-overload]  # torch's types lack this call
            self.device, self._dtype, memory_format=torch.channels_last
        )
        body.requires_grad_(False)
        if compiled:
            body = cast(nn.Module, torch.compile(body, dynamic=False))
            self.kernel = "compiled"
        pool, head = split_pooling(cast(nn.Sequential, head.to(self.device).requires_grad_(False)))
        self._body, self._pool, self._head = body, pool, head


class TorchCpuEngine(StreamsEngine):
    """A model computed by torch on the cores of this machine."""

    libraries = LIBRARIES

    def __init__(self, model: Model, settings: EngineSettings):
        cpu = torch.device("cpu")
        self.kernels = {"bfloat16": bfloat16_kernel(cpu)}
        super().__init__(model, settings)
        self._network = TorchNetwork(model, cpu, self.precision, self.batch_size, settings.compile)
        self.kernel = self._network.kernel

    def forward(self, pixels: np.ndarray) -> Outputs:
        """The network's outputs: see Engine.forward."""
        full = pad_batch(pixels, self.batch_size)
        return self._network.predict(full, self.needs_features).head(len(pixels))

    def init_thread(self) -> None:
        """Let torch compute in the stream's own thread."""
        torch.set_num_threads(1)


def scale_and_shift(normalise: Normalise) -> tuple[torch.Tensor, torch.Tensor]:
    """What normalises a pixel value from 0 to 255, for each channel: (1, 3, 1, 1) each."""
    mean, deviation = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (normalise.mean, normalise.std)
    )
    return 1 / (255 * deviation), -mean / deviation


def bfloat16_kernel(device: torch.device) -> str:
    """The native bfloat16 kernel of a device, such as `torch avx512_bf16` or `cuda sm_90`.

    Empty if there is none. oneDNN prefers `torch amx_bf16` if a processor has both.
    """
    if device.type == "cuda":
        native = bool(torch.cuda.is_bf16_supported(including_emulation=False))
        return "cuda sm_{}{}".format(*torch.cuda.get_device_capability(device)) if native else ""
    if not torch.cpu._is_avx512_bf16_supported():
        return ""
    return "torch amx_bf16" if torch.cpu._is_amx_tile_supported() else "torch avx512_bf16"
