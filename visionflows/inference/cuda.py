"""The GPU engine: processes decode, and one thread feeds the device.

Decode processes (torch's DataLoader) hand over uint8 batches in shared memory. A thread pins them,
and the device normalises them. The engine waits for a batch only if IN_FLIGHT more are on the
device.
"""

import collections
import multiprocessing
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from visionflows.inference.decode_processes import decode_process_count, decoded_batches
from visionflows.inference.decoding import Batch, DecodedBatch, Row
from visionflows.inference.engine import Engine, EngineSettings, Outputs
from visionflows.inference.torch_network import LIBRARIES, TorchNetwork, bfloat16_kernel
from visionflows.models.artifact import Model
from visionflows.storage.base import Storage

if TYPE_CHECKING:
    import torch

BATCH = 256
IN_FLIGHT = 3  # batches on the device: one computing, one arriving, one leaving


class _Pending(NamedTuple):
    decoded: DecodedBatch
    outputs: "list[torch.Tensor]"
    began: "torch.cuda.Event"
    ended: "torch.cuda.Event"


class GpuEngine(Engine):
    """A model computed by torch on the first GPU."""

    libraries = LIBRARIES
    timing_batches = 40
    locks = multiprocessing.get_context("fork")  # decode processes share one memory budget

    def __init__(self, model: Model, settings: EngineSettings):
        import torch

        device = torch.device("cuda")
        processes = decode_process_count(settings.batch_size or BATCH, model.info.image_size)
        self.kernels = {"bfloat16": bfloat16_kernel(device)}
        super().__init__(model, settings, BATCH, processes)
        self.network = TorchNetwork(
            model, device, self.precision, self.batch_size, settings.compile
        )
        self.kernel = self.network.kernel
        self.device_name = f"cuda: {torch.cuda.get_device_name(device)}"

    def forward(self, pixels: np.ndarray) -> Outputs:
        """The network's outputs: see Engine.forward."""
        return self.network.predict(pixels, self.needs_features)

    def predict_batches(self, storage: Storage, batches: Iterable[Batch]) -> Iterator[list[Row]]:
        """The rows of every batch, in order. Raises RunError if a decode process dies."""
        pending: collections.deque[_Pending] = collections.deque()
        for decoded in decoded_batches(self.decoder, storage, batches, self.workers):
            pending.append(_send(self, decoded))
            if len(pending) > IN_FLIGHT:
                yield _receive(self, pending.popleft())
        while pending:
            yield _receive(self, pending.popleft())


def _send(engine: GpuEngine, decoded: DecodedBatch) -> _Pending:
    import torch

    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    with torch.inference_mode():
        started = time.perf_counter()
        pixels = cast("torch.Tensor", decoded.pixels).to(engine.network.device, non_blocking=True)
        engine.seconds["transfer"] += time.perf_counter() - started
        began.record()
        tensors = engine.network.forward(pixels)[: 1 + engine.needs_features]
        outputs = [one.to("cpu", non_blocking=True) for one in tensors]
        ended.record()
    return _Pending(decoded, outputs, began, ended)


def _receive(engine: GpuEngine, pending: _Pending) -> list[Row]:
    pending.ended.synchronize()
    seconds = pending.began.elapsed_time(pending.ended) / 1000
    outputs = Outputs(*(one.numpy() for one in pending.outputs))
    return engine.finish_rows(pending.decoded, outputs, seconds)
