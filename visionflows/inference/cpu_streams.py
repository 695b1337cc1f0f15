"""An engine on a CPU, whatever computes: every stream is a thread with one core of its own.

    class OpenVinoEngine(StreamsEngine): ...             # visionflows.inference.openvino

It decodes a batch and runs the network on it, so that no core waits for another.
"""

import collections
import concurrent.futures
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from visionflows.inference.decoding import Batch, Row, as_entry
from visionflows.inference.engine import Answers, Engine, EngineSettings
from visionflows.models.artifact import Model
from visionflows.storage.base import Storage
from visionflows.system import DECODER, cores, decoder_count, processor_name

BATCH = 16
FORWARD = 256  # bytes a pixel of a batch that a network takes on its way through
READ_AHEAD = 32  # files at least that are under way, so that latency does not starve decoders


def padded(pixels: np.ndarray, size: int) -> np.ndarray:
    """The images of (n, side, side, 3), and empty ones up to the next multiple of `size`."""
    missing = np.zeros((-len(pixels) % size, *pixels.shape[1:]), np.uint8)
    return np.concatenate([pixels, missing]) if len(missing) else pixels


def first(answers: Answers, count: int) -> Answers:
    """The answers of the first images alone."""
    probabilities, features = answers
    return Answers(probabilities[:count], None if features is None else features[:count])


class _Pending(NamedTuple):
    rows: "concurrent.futures.Future[list[Row]]"
    bytes: int  # that are read ahead


class StreamsEngine(Engine):
    """A model on the cores of this machine."""

    def __init__(self, model: Model, settings: EngineSettings, precision: str):
        forward = FORWARD * (settings.batch_size or BATCH) * model.info.image_size**2
        super().__init__(model, settings, precision, BATCH, decoder_count(max(DECODER, forward)))
        self.few = 2 * self.workers
        self.device_name = f"cpu: {processor_name()}, {cores()} cores"

    def one_core(self) -> None:
        """What a new stream does first; it has one core to itself."""

    def stream(self, storage: Storage, batches: Iterable[Batch]) -> Iterator[list[Row]]:
        """The rows of every batch of files, in order: see Engine.stream."""
        pending: collections.deque[_Pending] = collections.deque()
        pool = concurrent.futures.ThreadPoolExecutor(self.workers, initializer=self.one_core)
        try:
            for files in batches:
                # Where reading takes time it begins here, a few batches ahead of the decoders.
                contents = self.decoder.ahead(storage, files)
                rows = pool.submit(self._rows, storage, files, contents)
                pending.append(_Pending(rows, self._bytes_ahead(files)))
                while self._enough(pending):
                    yield pending.popleft().rows.result()
            while pending:
                yield pending.popleft().rows.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _bytes_ahead(self, files: Batch) -> int:
        """How many bytes of these files, as they were listed, are read before their turn."""
        sizes = (as_entry(file).size for file in files)
        return sum(size for size in sizes if size <= self.decoder.memory.ahead)

    def _enough(self, pending: "collections.deque[_Pending]") -> bool:
        if len(pending) > max(2 * self.workers, READ_AHEAD // self.batch_size):
            return True
        waiting = sum(batch.bytes for batch in pending)
        return len(pending) > self.workers and waiting > self.decoder.memory.ahead_together

    def _rows(
        self, storage: Storage, files: Batch, contents: Iterator[bytes | OSError]
    ) -> list[Row]:
        decoded = self.decoder.decode(storage, files, contents)
        started = time.perf_counter()
        answers = self.forward(decoded.pixels[: decoded.good]) if decoded.good else None
        return self.filled(decoded, answers, (time.perf_counter() - started) / self.workers)
