"""The engine of torch on a CPU: for models without a model.onnx, machines without OpenVINO, and
whoever asks for it.

    make_engine(load(find("pets", "store")), EngineSettings(device="cpu", engine="torch"))
"""

import numpy as np

from visionflows.inference.cpu_streams import StreamsEngine, first, padded
from visionflows.inference.engine import Answers, EngineSettings
from visionflows.inference.precision_policy import precision_of
from visionflows.inference.torch_network import LIBRARIES, TorchNetwork, bfloat16_kernel
from visionflows.models.artifact import Model


class CpuEngine(StreamsEngine):
    """A model computed by torch on the cores of this machine."""

    libraries = LIBRARIES

    def __init__(self, model: Model, settings: EngineSettings):
        import torch

        cpu = torch.device("cpu")
        self.kernels = {"bfloat16": bfloat16_kernel(cpu)}
        precision = precision_of(model.info, settings.precision, self.kernels)
        super().__init__(model, settings, precision)
        self._network = TorchNetwork(model, cpu, precision, self.batch_size, settings.compile)
        self.kernel = self._network.kernel

    def forward(self, pixels: np.ndarray) -> Answers:
        """The network's own answers: see Engine.forward."""
        full = padded(pixels, self.batch_size)
        return first(self._network.answers(full, self.asks_features), len(pixels))

    def one_core(self) -> None:
        """No thread of a stream waits for another."""
        import torch

        torch.set_num_threads(1)
