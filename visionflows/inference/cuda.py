"""The engine on a GPU: processes decode, one thread feeds the device, none waits.

    from visionflows.inference.cuda import GpuEngine
    GpuEngine(load(find("pets", "store")), EngineSettings(device="cuda"))

Decode processes (torch's DataLoader, which keeps the order) hand over whole uint8 batches in
shared memory; they are pinned by a thread, sent and normalised on the device, and the answers
come back into pinned memory. A batch is waited for only when three more are under way behind it.
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
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from visionflows.errors import RunError
from visionflows.inference.decoding import Batch, Decoded, Decoder, Row
from visionflows.inference.engine import Answers, Engine, EngineSettings
from visionflows.inference.precision_policy import precision_of
from visionflows.inference.torch_network import LIBRARIES, TorchNetwork, bfloat16_kernel
from visionflows.models.artifact import Model
from visionflows.storage.base import Storage
from visionflows.system import DECODER, cores, decoder_count

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader

BATCH = 256
BATCHES = 4  # of a decode process: one it fills, two that wait, one on its way
IN_FLIGHT = 3  # batches on the device: one computing, one arriving, one leaving


class _Pending(NamedTuple):
    decoded: Decoded
    answers: "list[torch.Tensor]"
    began: "torch.cuda.Event"
    ended: "torch.cuda.Event"


class GpuEngine(Engine):
    """A model computed by torch on the first GPU."""

    libraries = LIBRARIES
    few = 40
    locks = multiprocessing.get_context("fork")  # decode processes share one budget of memory

    def __init__(self, model: Model, settings: EngineSettings):
        import torch

        device = torch.device("cuda")
        processes = decode_processes(settings.batch_size or BATCH, model.info.image_size)
        self.kernels = {"bfloat16": bfloat16_kernel(device)}
        precision = precision_of(model.info, settings.precision, self.kernels)
        super().__init__(model, settings, precision, BATCH, processes)
        self.network = TorchNetwork(model, device, precision, self.batch_size, settings.compile)
        self.kernel = self.network.kernel
        self.device_name = f"cuda: {torch.cuda.get_device_name(device)}"

    def forward(self, pixels: np.ndarray) -> Answers:
        """The network's own answers: see Engine.forward."""
        return self.network.answers(pixels, self.asks_features)

    def stream(self, storage: Storage, batches: Iterable[Batch]) -> Iterator[list[Row]]:
        """The rows of every batch, in order. Raises RunError where a decode process dies."""
        pending: collections.deque[_Pending] = collections.deque()
        for decoded in _told(_loader(self, storage, batches)):
            pending.append(_sent(self, decoded))
            if len(pending) > IN_FLIGHT:
                yield _received(self, pending.popleft())
        while pending:
            yield _received(self, pending.popleft())


def decode_processes(batch_size: int, side: int) -> int:
    """How many: one a core but that of the thread which feeds the device, as memory allows."""
    waiting = BATCHES * batch_size * side * side * 3
    return min(decoder_count(max(DECODER, waiting)), max(cores() - 1, 1))


def _loader(engine: Engine, storage: Storage, batches: Iterable[Batch]) -> "DataLoader[Decoded]":
    from torch.utils.data import DataLoader

    return DataLoader(
        _Files(engine.decoder, storage),  # type: ignore[arg-type]  # Dataset itself needs torch
        batch_size=None,  # an item of the dataset is a batch already
        sampler=batches,
        num_workers=engine.workers,
        prefetch_factor=2,
        pin_memory=True,
        # The children only read and decode: they touch neither the GPU nor a thread pool.
        multiprocessing_context="fork",
    )


class _Files:
    """A dataset whose items are decoded batches and whose indices are batches of files."""

    def __init__(self, decoder: Decoder, storage: Storage):
        self.decoder, self.storage = decoder, storage

    def __getitem__(self, files: Batch) -> Decoded:
        import torch

        decoded = self.decoder(self.storage, files)
        # A tensor from here to the device: the loader shares and pins those.
        return decoded._replace(pixels=cast(np.ndarray, torch.from_numpy(decoded.pixels)))

    def __len__(self) -> int:
        raise TypeError("a stream of batches has no length")


def _told(loader: "DataLoader[Decoded]") -> Iterator[Decoded]:
    before = set(multiprocessing.active_children())
    iterator = iter(loader)
    processes = set(multiprocessing.active_children()) - before
    with _asked_for_deaths():
        while True:
            try:
                decoded = next(iterator)
            except StopIteration:
                return
            # The loader's word for a death, or what its queue meets that asks the dead for memory.
            except (RuntimeError, OSError, EOFError) as error:
                if not _died(processes):
                    raise
                raise RunError(
                    f"a decode process died ({str(error).splitlines()[0]}); run it again to go on "
                    "from the last finished shard, with fewer --workers if memory ran out"
                ) from error
            yield decoded


@contextlib.contextmanager
def _asked_for_deaths() -> Iterator[None]:
    """For as long as a loader runs, a process's death is told by it alone, when it is asked.

    torch's handler of SIGCHLD raises in the main thread, wherever that is: in the midst of a
    write as well.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal is handled here, and no handler may be set
        return
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _died(processes: Iterable[BaseProcess]) -> bool:
    """Whether one has ended, or does within a second: a process closes its files before it ends.

    Then the others end too, and all are reaped: torch's handler of SIGCHLD, once back in its
    place, has none to tell of.
    """
    if not wait([process.sentinel for process in processes], timeout=1):
        return False
    for process in processes:
        process.kill()
        process.join()
    return True


def _sent(engine: GpuEngine, decoded: Decoded) -> _Pending:
    import torch

    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    with torch.inference_mode():
        started = time.perf_counter()
        pixels = cast("torch.Tensor", decoded.pixels).to(engine.network.device, non_blocking=True)
        engine.seconds["transfer"] += time.perf_counter() - started
        began.record()
        told = engine.network.forward(pixels)[: 1 + engine.asks_features]
        answers = [one.to("cpu", non_blocking=True) for one in told]
        ended.record()
    return _Pending(decoded, answers, began, ended)


def _received(engine: GpuEngine, pending: _Pending) -> list[Row]:
    pending.ended.synchronize()
    seconds = pending.began.elapsed_time(pending.ended) / 1000
    answers = Answers(*(one.numpy() for one in pending.answers))
    return engine.filled(pending.decoded, answers, seconds)
