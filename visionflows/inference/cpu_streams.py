"""CPU engines: each stream is a thread with its own core, which decodes and computes batches."""

import collections
import concurrent.futures
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from visionflows.inference.decoding import Batch, Row, as_entry
from visionflows.inference.engine import Engine, EngineSettings
from visionflows.models.artifact import Model
from visionflows.storage.base import Storage
from visionflows.system import DECODER_BYTES, cores, decoder_count, processor_name

BATCH = 16
FORWARD = 256  # bytes of memory per pixel of a batch during a forward pass
READ_AHEAD = 32  # files in progress, at least: decoders must not wait for a slow storage


def pad_batch(pixels: np.ndarray, size: int) -> np.ndarray:
    """The images (n, side, side, 3), padded with zeros to a multiple of `size`."""
    missing = np.zeros((-len(pixels) % size, *pixels.shape[1:]), np.uint8)
    return np.concatenate([pixels, missing]) if len(missing) else pixels


class _Pending(NamedTuple):
    rows: "concurrent.futures.Future[list[Row]]"
    bytes: int  # that are read ahead


class StreamsEngine(Engine):
    """A model on the cores of this machine."""

    def __init__(self, model: Model, settings: EngineSettings):
        forward = FORWARD * (settings.batch_size or BATCH) * model.info.image_size**2
        workers = decoder_count(max(DECODER_BYTES, forward))
        super().__init__(model, settings, BATCH, workers)
        self.timing_batches = 2 * self.workers
        self.device_name = f"cpu: {processor_name()}, {cores()} cores"

    def init_thread(self) -> None:
        """Prepare a new stream's thread, which has a core to itself."""

    def predict_batches(self, storage: Storage, batches: Iterable[Batch]) -> Iterator[list[Row]]:
        """The rows of every batch of files, in order: see Engine.predict_batches."""
        pending: collections.deque[_Pending] = collections.deque()
        pool = concurrent.futures.ThreadPoolExecutor(self.workers, initializer=self.init_thread)
        try:
            for files in batches:
                # A slow storage is read a few batches ahead of the decoders.
                contents = self.decoder.prefetch(storage, files)
                rows = pool.submit(self._rows, storage, files, contents)
                pending.append(_Pending(rows, self._prefetched_bytes(files)))
                while self._is_full(pending):
                    yield pending.popleft().rows.result()
            while pending:
                yield pending.popleft().rows.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _prefetched_bytes(self, files: Batch) -> int:
        """How many bytes of these files are read before their turn, by their listed sizes."""
        sizes = (as_entry(file).size for file in files)
        return sum(size for size in sizes if size <= self.decoder.memory.ahead)

    def _is_full(self, pending: "collections.deque[_Pending]") -> bool:
        if len(pending) > max(2 * self.workers, READ_AHEAD // self.batch_size):
            return True
        waiting = sum(batch.bytes for batch in pending)
        return len(pending) > self.workers and waiting > self.decoder.memory.ahead_together

    def _rows(
        self, storage: Storage, files: Batch, contents: Iterator[bytes | OSError]
    ) -> list[Row]:
        batch = self.decoder.decode(storage, files, contents)
        started = time.perf_counter()
        outputs = self.forward(batch.pixels[: batch.ok_count]) if batch.ok_count else None
        return self.finish_rows(batch, outputs, (time.perf_counter() - started) / self.workers)
