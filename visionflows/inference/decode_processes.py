"""Processes that decode images for the GPU: torch's DataLoader, uint8 batches in shared memory."""

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, cast

import numpy as np

from visionflows.errors import RunError
from visionflows.inference.decoding import Batch, DecodedBatch, Decoder
from visionflows.storage.base import Storage
from visionflows.system import DECODER_BYTES, cores, decoder_count

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

BATCHES = 4  # per decode process: one being finished, two waiting, one in transfer


def decode_process_count(batch_size: int, side: int) -> int:
    """How many decode processes: one per core, less one for the device, as memory allows."""
    waiting = BATCHES * batch_size * side * side * 3
    return min(decoder_count(max(DECODER_BYTES, waiting)), max(cores() - 1, 1))


def _loader(
    decoder: Decoder, storage: Storage, batches: Iterable[Batch], processes: int
) -> "DataLoader[DecodedBatch]":
    from torch.utils.data import DataLoader

    return DataLoader(
        _Files(decoder, storage),  # type: ignore[arg-type]  # Dataset itself needs torch
        batch_size=None,  # an item of the dataset is a batch
        sampler=batches,
        num_workers=processes,
        prefetch_factor=2,
        pin_memory=True,
        # The children only read and decode: they use neither the GPU nor a thread pool.
        multiprocessing_context="fork",
    )


class _Files:
    """A dataset whose items are decoded batches and whose indices are batches of files."""

    def __init__(self, decoder: Decoder, storage: Storage):
        self.decoder, self.storage = decoder, storage

    def __getitem__(self, files: Batch) -> DecodedBatch:
        import torch

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
