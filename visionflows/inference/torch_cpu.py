"""The torch engine on a CPU: for models without model.onnx, or machines without OpenVINO."""

import numpy as np

from visionflows.inference.cpu_streams import StreamsEngine, pad_batch
from visionflows.inference.engine import EngineSettings, Outputs
from visionflows.inference.precision_policy import choose_precision
from visionflows.inference.torch_network import LIBRARIES, TorchNetwork, bfloat16_kernel
from visionflows.models.artifact import Model


class TorchCpuEngine(StreamsEngine):
    """A model computed by torch on the cores of this machine."""

    libraries = LIBRARIES

    def __init__(self, model: Model, settings: EngineSettings):
        import torch

        cpu = torch.device("cpu")
        self.kernels = {"bfloat16": bfloat16_kernel(cpu)}
        precision = choose_precision(model.info, settings.precision, self.kernels)
        super().__init__(model, settings, precision)
        self._network = TorchNetwork(model, cpu, precision, self.batch_size, settings.compile)
        self.kernel = self._network.kernel

    def forward(self, pixels: np.ndarray) -> Outputs:
        """The network's outputs: see Engine.forward."""
        full = pad_batch(pixels, self.batch_size)
        return self._network.predict(full, self.needs_features).head(len(pixels))

    def init_thread(self) -> None:
        """Let torch compute in the stream's own thread."""
        import torch

        torch.set_num_threads(1)
