"""The GPU engine: processes decode, and one thread feeds the device.

Decode processes (torch's DataLoader) hand over uint8 batches in shared memory. A thread pins them,
and the device normalises them. The engine waits for a batch only if IN_FLIGHT more are on the
device.
"""

import collections
import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from visionflows.errors import RunError
from visionflows.inference.decoding import Batch, DecodedBatch, Decoder, Row
from visionflows.inference.engine import Engine, EngineSettings, Outputs
from visionflows.inference.torch_network import LIBRARIES, TorchNetwork, bfloat16_kernel
from visionflows.models.artifact import Model
from visionflows.storage.base import Storage
from visionflows.system import DECODER_BYTES, cores, decoder_count

BATCH = 256
DECODED = 4  # batches per decode process: one being finished, two waiting, one in transfer
IN_FLIGHT = 3  # batches on the device: one computing, one arriving, one leaving


class _Pending(NamedTuple):
    decoded: DecodedBatch
    outputs: list[torch.Tensor]
    began: torch.cuda.Event
    ended: torch.cuda.Event


class GpuEngine(Engine):
    """A model computed by torch on the first GPU."""

    libraries = LIBRARIES
    timing_batches = 40
    locks = multiprocessing.get_context("fork")  # decode processes share one memory budget

    def __init__(self, model: Model, settings: EngineSettings):
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
    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    with torch.inference_mode():
        started = time.perf_counter()
        pixels = cast(torch.Tensor, decoded.pixels).to(engine.network.device, non_blocking=True)
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


def decode_process_count(batch_size: int, side: int) -> int:
    """How many decode processes: one per core, less one for the device, as memory allows."""
    waiting = DECODED * batch_size * side * side * 3
    return min(decoder_count(max(DECODER_BYTES, waiting)), max(cores() - 1, 1))


def _loader(
    decoder: Decoder, storage: Storage, batches: Iterable[Batch], processes: int
) -> DataLoader[DecodedBatch]:
    return DataLoader(
        _Files(decoder, storage),
        batch_size=None,  # an item of the dataset is a batch
        sampler=batches,
        num_workers=processes,
        prefetch_factor=2,
        pin_memory=True,
        # The children only read and decode: they use neither the GPU nor a thread pool.
        multiprocessing_context="fork",
    )


class _Files(Dataset[DecodedBatch]):
    """A dataset whose items are decoded batches and whose indices are batches of files."""

    def __init__(self, decoder: Decoder, storage: Storage):
        self.decoder, self.storage = decoder, storage

    def __getitem__(self, files: Batch) -> DecodedBatch:
        decoded = self.decoder(self.storage, files)
        # The loader shares and pins tensors.
        return decoded._replace(pixels=cast(np.ndarray, torch.from_numpy(decoded.pixels)))


def decoded_batches(
    decoder: Decoder, storage: Storage, batches: Iterable[Batch], processes: int
) -> Iterator[DecodedBatch]:
    """The decoded batches, in order. Raises RunError if a decode process dies."""
    before = set(multiprocessing.active_children())
    iterator = iter(_loader(decoder, storage, batches, processes))
    started = set(multiprocessing.active_children()) - before
    with _default_sigchld():
        try:
            yield from iterator
        # The loader reports a dead process, or its queue fails to read the memory of one.
        except (RuntimeError, OSError, EOFError) as error:
            if not _has_died(started):
                raise
            raise RunError(
                f"a decode process died ({str(error).splitlines()[0]}); run again to resume "
                "after the last finished shard, with fewer --workers if memory ran out"
            ) from error


@contextlib.contextmanager
def _default_sigchld() -> Iterator[None]:
    """Use the default SIGCHLD handler for the block, so that only the loader reports deaths.

    torch's handler raises in the main thread at any moment, also in the middle of a write.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set a handler
        return
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _has_died(processes: Iterable[BaseProcess]) -> bool:
    """Whether a process has ended, or does within a second: it closes its files before it ends.

    If so, all are killed and reaped: torch's SIGCHLD handler, once restored, must find none.
    """
    if not wait([process.sentinel for process in processes], timeout=1):
        return False
    for process in processes:
        process.kill()
        process.join()
    return True
