"""The engine on a CPU: every stream is a thread with one core of its own.

    from visionflows.engine.cpu import CpuEngine
    CpuEngine(load(find("pets", "store")), EngineSettings(device="cpu"))

It decodes a batch and runs the network on it, so that no core waits for another.
"""

import collections
import concurrent.futures
import time
from collections.abc import Iterable, Iterator

from visionflows.engine.base import EngineSettings
from visionflows.engine.decode import Batch, Row, as_entry
from visionflows.engine.torch import TorchEngine
from visionflows.machine import cores, processor
from visionflows.model.bundle import Model
from visionflows.places.base import Place

BATCH = 16
READ_AHEAD = 32  # files at least that are under way, so that latency does not starve decoders


class CpuEngine(TorchEngine):
    """A model on the cores of this machine."""

    def __init__(self, model: Model, settings: EngineSettings):
        import torch

        super().__init__(model, settings, torch.device("cpu"), BATCH, cores())
        self.few = 2 * self.workers
        self.device_name = f"cpu: {processor()}, {cores()} cores"

    def stream(self, place: Place, batches: Iterable[Batch]) -> Iterator[list[Row]]:
        """The rows of every batch of files, in order: see Engine.stream."""
        pending: collections.deque[concurrent.futures.Future[list[Row]]] = collections.deque()
        pool = concurrent.futures.ThreadPoolExecutor(self.workers, initializer=_one_core)
        try:
            for files in batches:
                # Where reading takes time it begins here, a few batches ahead of the decoders.
                contents = place.read_many(map(as_entry, files))
                pending.append(pool.submit(self._rows, files, contents))
                if len(pending) > max(2 * self.workers, READ_AHEAD // self.batch_size):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _rows(self, files: Batch, contents: Iterator[bytes | OSError]) -> list[Row]:
        decoded = self.decoder.decode(files, contents)
        started = time.perf_counter()
        probabilities = self.probabilities(decoded.pixels) if decoded.good else None
        return self.filled(decoded, probabilities, (time.perf_counter() - started) / self.workers)


def _one_core() -> None:
    """A stream has one core to itself: no thread of it waits for another."""
    import torch

    torch.set_num_threads(1)
