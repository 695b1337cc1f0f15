"""fastai DataLoaders of a file table: images decoded as for scoring, loaded ahead of training.

The classes are at the top of a module so that they can be pickled: loader processes get them so
where the system does not fork, on macOS and from Python 3.14 on. Import this module inside
functions only, as fastai takes seconds to import.
"""

import itertools
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from fastai.data.block import CategoryBlock, DataBlock, MultiCategoryBlock, TransformBlock
from fastai.data.core import DataLoaders, TfmdDL
from fastai.data.transforms import ColReader, ColSplitter, IntToFloatTensor, Normalize
from fastai.torch_core import default_device
from fastai.vision.augment import Resize, Transform, aug_transforms
from fastai.vision.core import PILImage
from PIL import Image
from torch.utils.data import get_worker_info

from visionflows.datasets.file_table import downscaled_cache
from visionflows.errors import TrainError, one_line
from visionflows.images.color_profiles import attached_profile, convert_to_srgb
from visionflows.images.downscaled_cache import DownscaledCache
from visionflows.images.image_status import BadImage
from visionflows.images.open import open_with_profile
from visionflows.images.pillow import no_pixel_limit
from visionflows.label_sets import SEPARATOR, all_classes, is_multi_label
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.storage.prefetch import prefetch
from visionflows.system import cores, decoder_count
from visionflows.training.allocator_settings import release_freed_memory
from visionflows.training.pretrained_weights import normalisation
from visionflows.training.settings import TrainSettings

# Options of fastai's aug_transforms: degrees of rotation, and shares of zoom, light and warp.
AUGMENTATIONS: dict[str, dict[str, float]] = {
    "light": {"max_rotate": 5.0, "max_zoom": 1.05, "max_lighting": 0.1, "max_warp": 0.0},
    "default": {},
    "strong": {"max_rotate": 20.0, "max_zoom": 1.3, "max_lighting": 0.4, "max_warp": 0.3},
}
# One thread decodes and crops 490 photos of 500 pixels a second, or 200 downscaled copies of
# larger ones; one core trains on 8 to 30 a second.
MAX_CORES_OF_THREAD = 4
PREFETCHED_BATCHES = 2  # by the thread


def make_dataloaders(
    table: pd.DataFrame,
    folder: str | Path,
    settings: TrainSettings,
    classes: Sequence[str] | None = None,
) -> DataLoaders:
    """Return fastai DataLoaders over the usable rows of a table, images decoded as for scoring.

    The classes are by default the sorted labels. Augmentation is fastai's `aug_transforms` without
    vertical flips. The order of the images depends on the seed alone, whatever other threads draw.
    """
    usable = table[table.status == "ok"].reset_index(drop=True)
    resize = SeededResize(settings.image_size, settings.resize)
    open_row = OpenRow(os.fspath(folder), settings, downscaled_cache(settings.decode_options))
    normalise = Normalize.from_stats(*normalisation(settings.architecture))
    multi_label = is_multi_label(table)
    make_block = MultiCategoryBlock if multi_label else CategoryBlock
    block = DataBlock(
        blocks=(
            TransformBlock(type_tfms=open_row, batch_tfms=IntToFloatTensor),
            make_block(vocab=list(classes or all_classes(usable.label, multi_label))),
        ),
        get_y=ColReader("label", label_delim=SEPARATOR if multi_label else None),
        splitter=ColSplitter("is_valid"),
        item_tfms=resize,
        batch_tfms=[*_augmentations(settings), normalise],
    )
    loaders = block.dataloaders(
        usable,
        bs=min(settings.batch_size, int((~usable.is_valid.astype(bool)).sum())),
        dl_type=PrefetchingLoader,
        num_workers=worker_count(settings),
    )
    _seed_generators(settings.seed, loaders, resize)
    return loaders


def _augmentations(settings: TrainSettings) -> list[Any]:
    if settings.augment == "none":
        return []
    return list(aug_transforms(do_flip=settings.flip, **AUGMENTATIONS[settings.augment]))


def worker_count(settings: TrainSettings) -> int:
    """Return how many processes load images; 0 means a thread of this process."""
    if settings.workers is not None:
        return settings.workers
    uses_copies = settings.decode != "full"  # else every epoch decodes every photo in full
    if default_device().type == "cpu" and uses_copies and cores() <= MAX_CORES_OF_THREAD:
        # Every epoch forks new processes, and the network's memory is then copied page by page
        # as it changes: 7 s of a 20 s epoch, measured with tf_efficientnet_lite0.
        return 0
    return min(decoder_count(), 16)


def _seed_generators(seed: int, loaders: DataLoaders, resize: "SeededResize") -> None:
    """Give each user of Python's `random` its own generator, seeded as fastai would.

    Other threads draw from the global one: the keepalive of Prefect's websocket, for example.
    """
    seeds = random.Random(seed)
    for loader in loaders.loaders:
        loader.rng = random.Random(seeds.randint(0, 2**32 - 1))
    loaders.train.transform_random = resize.generator


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
    """Opens the image of a row of the table, from its downscaled copy if there is one.

    Raises TrainError: the image could be opened when the table was made, and no longer can.
    """

    def __init__(self, folder: str, settings: TrainSettings, copies: DownscaledCache):
        super().__init__()
        self.folder, self.settings, self.copies = folder, settings, copies

    def encodes(self, row):  # type: ignore[no-untyped-def]  # a type would limit the rows
        """The image of a row."""
        path, options = os.path.join(self.folder, decode_name(row.path)), self.copies.decode_options
        copy = self.copies.get(row.sha256) if hasattr(row, "sha256") else None
        try:
            return PILImage(copy or open_with_profile(path, self.settings.max_pixels, options))
        except BadImage as bad:
            advice = "do not change the dataset while it trains"
            if bad.status == "too_large":  # memory is short
                advice = "give fewer --workers"
            raise TrainError(
                f"{one_line(encode_name(path))}: {bad.reason}, but it was readable when "
                f"training began; {advice}, and run again"
            ) from bad


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
