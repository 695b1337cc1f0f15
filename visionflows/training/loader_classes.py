"""Subclasses of fastai's loader and resizing, at the top of a module so that they can be pickled.

Loader processes get them so where the system does not fork: on macOS, and from Python 3.14 on.
Import this module inside functions only, as fastai takes seconds to import.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fastai.data.core import TfmdDL
from fastai.vision.augment import Resize, Transform
from PIL import Image
from torch.utils.data import get_worker_info

from visionflows.errors import TrainError
from visionflows.images.color_profiles import attached_profile, convert_to_srgb
from visionflows.images.pillow import no_pixel_limit
from visionflows.storage.prefetch import prefetch
from visionflows.training.allocator_settings import release_freed_memory

PREFETCHED_BATCHES = 2  # by the thread


class PrefetchingLoader(TfmdDL):  # type: ignore[misc]  # fastai has no types
    """fastai's TfmdDL that, without processes, loads ahead in one thread.

    Batches keep their order. `transform_random` is the generator of a transform: each epoch
    resets it from the loader's own, so batches that were loaded but not used change nothing.
    """

    transform_random = random.Random()
    prefetches = True

    def create_batches(self, samps: Iterable[int]) -> Iterator[Any]:
        """The batches of these images."""
        batches: Iterator[Any] = super().create_batches(samps)
        if get_worker_info():
            return batches
        batches = _with_state(batches, self.transform_random, self.rng.getstate())
        return _prefetched(batches) if self.prefetches else batches

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from super().__iter__()
        except TrainError as error:
            raise TrainError(_without_traceback(error)) from error

    def one_batch(self) -> Any:
        """A batch, without loading the next ones."""
        self.prefetches = False
        try:
            return super().one_batch()
        finally:
            self.prefetches = True

    def wif(self) -> None:
        """Start a loader process: it decodes images of any size and keeps no freed memory."""
        release_freed_memory()


class OpenRow(Transform):  # type: ignore[misc]  # fastai has no types
    """Opens a row by a function. fastai's own transform of a partial cannot be pickled."""

    def __init__(self, open_row: Callable[[Any], Any]):
        super().__init__()
        self.open_row = open_row

    def encodes(self, row):  # type: ignore[no-untyped-def]  # a type would limit the rows
        """The image of a row."""
        return self.open_row(row)


class SeededResize(Resize):  # type: ignore[misc]  # fastai has no types
    """fastai's Resize with its own generator for random crops; it converts colours too.

    Pillow's own pixel limit does not apply to images that `max_pixels` allows.
    """

    def __init__(self, size: int, method: str):
        super().__init__(size, method=method)
        self.generator = random.Random()

    def __call__(self, item: Any, *args: Any, **options: Any) -> Any:
        with no_pixel_limit():
            resized = super().__call__(item, *args, **options)
        _convert_colors(item, resized)
        return resized

    def before_call(self, b: Any, split_idx: int | None) -> None:
        """Draw where the image is cropped."""
        super().before_call(b, split_idx)
        # A loader process has one thread, and fastai seeds it for every epoch.
        if not split_idx and get_worker_info() is None:
            self.pcts = self.generator.random(), self.generator.random()


def _convert_colors(item: Any, resized: Any) -> None:
    """Convert the images of a resized item to sRGB in place, as resize_image does."""
    if isinstance(item, tuple):
        for one, other in zip(item, resized, strict=True):
            _convert_colors(one, other)
    elif isinstance(item, Image.Image):
        convert_to_srgb(resized, attached_profile(item))


def _with_state(
    batches: Iterator[Any], generator: random.Random, state: tuple[Any, ...]
) -> Iterator[Any]:
    generator.setstate(state)
    yield from batches


def _prefetched(batches: Iterator[Any]) -> Iterator[Any]:
    loaded = prefetch(lambda _: next(batches, None), itertools.count(), 1, PREFETCHED_BATCHES)
    return itertools.takewhile(lambda batch: batch is not None, loaded)


def _without_traceback(error: TrainError) -> str:
    """An error's message: torch puts the traceback of a loader process before it.

    Their line ends are escaped, as in every error's line.
    """
    name = f"{TrainError.__module__}.{TrainError.__qualname__}: "
    return str(error).rpartition(name)[2].removesuffix(r"\n")
