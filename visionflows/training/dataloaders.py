"""fastai DataLoaders of a file table: images decoded as for scoring, loaded ahead of training."""

import functools
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from visionflows.datasets.file_table import downscaled_cache
from visionflows.errors import TrainError, one_line
from visionflows.images.downscaled_cache import DownscaledCache
from visionflows.images.image_status import BadImage
from visionflows.images.open import open_with_profile
from visionflows.models import network
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.system import cores, decoder_count
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    from fastai.data.core import DataLoaders
    from fastai.vision.core import PILImage
    from fastcore.transform import Transform

# torchvision's pretrained weights were all trained on pixels normalised with these.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Options of fastai's aug_transforms: degrees of rotation, and shares of zoom, light and warp.
AUGMENTATIONS: dict[str, dict[str, float]] = {
    "light": {"max_rotate": 5.0, "max_zoom": 1.05, "max_lighting": 0.1, "max_warp": 0.0},
    "default": {},
    "strong": {"max_rotate": 20.0, "max_zoom": 1.3, "max_lighting": 0.4, "max_warp": 0.3},
}
# One thread decodes and crops 490 photos of 500 pixels a second, or 200 downscaled copies of
# larger ones; one core trains on 8 to 30 a second.
MAX_CORES_OF_THREAD = 4


def make_dataloaders(
    table: pd.DataFrame,
    folder: str | Path,
    settings: TrainSettings,
    classes: Sequence[str] | None = None,
) -> "DataLoaders":
    """Return fastai DataLoaders over the usable rows of a table, images decoded as for scoring.

    The classes are by default the sorted labels. Augmentation is fastai's `aug_transforms` without
    vertical flips. The order of the images depends on the seed alone, whatever other threads draw.
    """
    from fastai.data.block import CategoryBlock, DataBlock, TransformBlock
    from fastai.data.transforms import ColReader, ColSplitter, IntToFloatTensor, Normalize

    from visionflows.training.loader_classes import OpenRow, PrefetchingLoader, SeededResize

    usable = table[table.status == "ok"].reset_index(drop=True)
    resize = SeededResize(settings.image_size, settings.resize)
    copies = downscaled_cache(settings.decode_options)
    open_row = functools.partial(
        open_for_fastai, folder=os.fspath(folder), settings=settings, copies=copies
    )
    normalise = Normalize.from_stats(*normalisation(settings.architecture))
    block = DataBlock(
        blocks=(
            TransformBlock(type_tfms=OpenRow(open_row), batch_tfms=IntToFloatTensor),
            CategoryBlock(vocab=list(classes or sorted(usable.label.unique()))),
        ),
        get_y=ColReader("label"),
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
    from fastai.vision.augment import aug_transforms

    if settings.augment == "none":
        return []
    return list(aug_transforms(do_flip=settings.flip, **AUGMENTATIONS[settings.augment]))


def normalisation(architecture: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of each channel that the weights expect."""
    if network.is_torchvision(architecture):
        return IMAGENET_MEAN, IMAGENET_STD
    import timm

    config = timm.get_pretrained_cfg(architecture)
    return (config.mean, config.std) if config else (IMAGENET_MEAN, IMAGENET_STD)


def worker_count(settings: TrainSettings) -> int:
    """Return how many processes load images; 0 means a thread of this process."""
    from fastai.torch_core import default_device

    if settings.workers is not None:
        return settings.workers
    uses_copies = settings.decode != "full"  # else every epoch decodes every photo in full
    if default_device().type == "cpu" and uses_copies and cores() <= MAX_CORES_OF_THREAD:
        # Every epoch forks new processes, and the network's memory is then copied page by page
        # as it changes: 7 s of a 20 s epoch, measured with tf_efficientnet_lite0.
        return 0
    return min(decoder_count(), 16)


def _seed_generators(seed: int, loaders: "DataLoaders", resize: "Transform") -> None:
    """Give each user of Python's `random` its own generator, seeded as fastai would.

    Other threads draw from the global one: the keepalive of Prefect's websocket, for example.
    """
    seeds = random.Random(seed)
    for loader in loaders.loaders:
        loader.rng = random.Random(seeds.randint(0, 2**32 - 1))
    loaders.train.transform_random = resize.generator


def open_for_fastai(
    row: Any, folder: str, settings: TrainSettings, copies: DownscaledCache
) -> "PILImage":
    """Return a fastai PILImage of a row of the table, from its downscaled copy if there is one.

    Raises TrainError: the image could be opened when the table was made, and no longer can.
    """
    from fastai.vision.core import PILImage

    path, options = os.path.join(folder, decode_name(row.path)), copies.decode_options
    copy = copies.get(row.sha256) if hasattr(row, "sha256") else None
    try:
        return PILImage(copy or open_with_profile(path, settings.max_pixels, options))
    except BadImage as bad:
        advice = "do not change the dataset while it trains"
        if bad.status == "too_large":  # memory is short
            advice = "give fewer --workers"
        raise TrainError(
            f"{one_line(encode_name(path))}: {bad.reason}, but it was readable when "
            f"training began; {advice}, and run again"
        ) from bad
