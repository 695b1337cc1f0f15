"""How images come to a network that trains: by processes, or by a thread beside a few cores.

from visionflows.training.dataloaders import loader_class, worker_count
block.dataloaders(table, dl_type=loader_class(), num_workers=worker_count(settings))
"""

import functools
import itertools
import random
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from visionflows.errors import TrainError
from visionflows.storage.prefetch import prefetch
from visionflows.system import cores, decoder_count
from visionflows.training.allocator_settings import give_back
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    from fastai.data.core import TfmdDL

# A thread decodes and crops 490 photos of 500 pixels a second, or 200 copies of larger ones; a core
# trains 8 to 30.
CORES_OF_A_THREAD = 4
BATCHES = 2  # loaded ahead by the thread


def worker_count(settings: TrainSettings) -> int:
    """How many processes load images; 0 where a thread of this one does."""
    from fastai.torch_core import default_device

    if settings.workers is not None:
        return settings.workers
    little = settings.decode != "full"  # what is decoded whole is so in every epoch
    if default_device().type == "cpu" and little and cores() <= CORES_OF_A_THREAD:
        # Every epoch forks its processes anew, and then a network in memory is copied page by
        # page as it changes: 7 s of an epoch of 20 s, seen with tf_efficientnet_lite0.
        return 0
    return min(decoder_count(), 16)


@functools.cache
def loader_class() -> "type[TfmdDL]":
    """fastai's TfmdDL, which without processes loads ahead, by a thread and in order.

    Its `draws` are those of a transform. A pass over the images begins them anew, from where its
    own generator stands, so that what was loaded ahead in vain before it has no say.
    """
    from fastai.data.core import TfmdDL
    from torch.utils.data import get_worker_info

    class LoaderAhead(TfmdDL):  # type: ignore[misc]  # fastai has no types
        draws = random.Random()
        goes_ahead = True

        def create_batches(self, samps: Iterable[int]) -> Iterator[Any]:
            batches: Iterator[Any] = super().create_batches(samps)
            if get_worker_info():
                return batches
            batches = _begun(batches, self.draws, self.rng.getstate())
            return _ahead(batches) if self.goes_ahead else batches

        def __iter__(self) -> Iterator[Any]:
            try:
                yield from super().__iter__()
            except TrainError as error:
                raise TrainError(_said(error)) from error

        def one_batch(self) -> Any:
            self.goes_ahead = False
            try:
                return super().one_batch()
            finally:
                self.goes_ahead = True

        def wif(self) -> None:
            """What a process does first. It decodes pictures of any size, and keeps no memory."""
            give_back()

    return LoaderAhead


def _said(error: TrainError) -> str:
    """What an error says: torch brings one of a loader's process with its traceback before it."""
    last = str(error).rstrip().rpartition("\n")[2]
    return last.removeprefix(f"{TrainError.__module__}.{TrainError.__qualname__}: ")


def _begun(batches: Iterator[Any], draws: random.Random, state: tuple[Any, ...]) -> Iterator[Any]:
    draws.setstate(state)
    yield from batches


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
    arriving = prefetch(lambda _: next(batches, None), itertools.count(), 1, BATCHES)
    return itertools.takewhile(lambda batch: batch is not None, arriving)
