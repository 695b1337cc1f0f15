"""The fastai learner of a labelled file table: what fine_tune trains and evaluate looks at.

from visionflows.training.settings import TrainSettings
from visionflows.training.learner import make_learner
learn = make_learner(table, "store/datasets/pets-5c1a3d0f", TrainSettings(architecture="resnet18"))
learn.fine_tune(1)
"""

import functools
import os
import random
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from visionflows.datasets.file_table import downscaled_cache
from visionflows.errors import TrainError, one_line
from visionflows.images.decode_options import WHOLE, DecodeOptions
from visionflows.images.downscaled_cache import DownscaledCache
from visionflows.images.image_status import BadImage
from visionflows.images.memory_limits import MAX_PIXELS
from visionflows.images.open import open_image
from visionflows.images.pillow import ours
from visionflows.models import network
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.training.dataloaders import loader_class, worker_count
from visionflows.training.pretrained_weights import (
    explain_download_errors,
    timm_overlay,
    torchvision_network,
)
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.vision.core import PILImage
    from fastcore.transform import Transform

# torchvision's pretrained weights were all trained on pixels normalised so.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Whoever makes or trains a learner holds it: torch's generators are the process's, and what one
# thread seeds and draws another would miss.
torch_random_lock = threading.RLock()


def normalisation(architecture: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and standard deviation, a channel each, an architecture's weights expect."""
    if network.is_torchvision(architecture):
        return IMAGENET_MEAN, IMAGENET_STD
    import timm

    config = timm.get_pretrained_cfg(architecture)
    return (config.mean, config.std) if config else (IMAGENET_MEAN, IMAGENET_STD)


def make_dataloaders(
    table: "pd.DataFrame", folder: str | Path, settings: TrainSettings
) -> "DataLoaders":
    """fastai's DataLoaders over the usable rows of a table, images opened as for scoring.

    The classes are the sorted labels. Augmentation is fastai's `aug_transforms`, without
    flips upside down. The order of the images is drawn from the settings' seed, and from nothing
    that other threads draw from.
    """
    from fastai.data.block import CategoryBlock, DataBlock, TransformBlock
    from fastai.data.transforms import ColReader, ColSplitter, IntToFloatTensor, Normalize
    from fastai.vision.augment import aug_transforms

    usable = table[table.status == "ok"].reset_index(drop=True)
    augmentations = aug_transforms() if settings.augment else []
    resize = _resize(settings)
    block = DataBlock(
        blocks=(
            TransformBlock(
                type_tfms=functools.partial(
                    open_for_fastai,
                    max_pixels=settings.max_pixels,
                    decode_options=settings.decode_options,
                    kept=_kept(usable, folder, settings.decode_options),
                ),
                batch_tfms=IntToFloatTensor,
            ),
            CategoryBlock(vocab=sorted(usable.label.unique())),
        ),
        get_x=functools.partial(_file_of, folder=os.fspath(folder)),
        get_y=ColReader("label"),
        splitter=ColSplitter("is_valid"),
        item_tfms=resize,
        batch_tfms=[*augmentations, Normalize.from_stats(*normalisation(settings.architecture))],
    )
    batch_size = min(settings.batch_size, int((~usable.is_valid.astype(bool)).sum()))
    loaders = block.dataloaders(
        usable, bs=batch_size, dl_type=loader_class(), num_workers=worker_count(settings)
    )
    _draw_from(settings.seed, loaders, resize)
    return loaders


def _draw_from(seed: int, loaders: "DataLoaders", resize: "Transform") -> None:
    """Give what draws from Python's `random` generators of its own, as fastai would seed them.

    Every thread draws from `random`: the keepalive of Prefect's websocket, to name one.
    """
    draws = random.Random(seed)
    for loader in loaders.loaders:
        loader.rng = random.Random(draws.randint(0, 2**32 - 1))
    loaders.train.draws = resize.draws


def _resize(settings: TrainSettings) -> "Transform":
    """fastai's `Resize`, with draws of its own for where a training image is cropped.

    Pillow's limit on pixels has no say in pictures that ours let pass.
    """
    from fastai.vision.augment import Resize
    from torch.utils.data import get_worker_info

    class OursResize(Resize):  # type: ignore[misc]  # fastai has no types
        draws = random.Random()

        def __call__(self, *args: Any, **options: Any) -> Any:
            with ours(settings.max_pixels):
                return super().__call__(*args, **options)

        def before_call(self, b: Any, split_idx: int | None) -> None:
            super().before_call(b, split_idx)
            # A loader's process has one thread and a seed of its own for every epoch.
            if not split_idx and get_worker_info() is None:
                self.pcts = self.draws.random(), self.draws.random()

    return OursResize(settings.image_size, method=settings.resize)


class _Kept(NamedTuple):
    """The copies of photos that were decoded when the table was made, and their digests."""

    copies: DownscaledCache
    contents: dict[str, str]  # by path

    def get(self, path: str) -> Image.Image | None:
        sha256 = self.contents.get(path)
        return self.copies.get(sha256) if sha256 else None


def _kept(usable: "pd.DataFrame", folder: str | Path, decode_options: DecodeOptions) -> _Kept:
    files = (_file_of(row, os.fspath(folder)) for row in usable.itertuples())
    return _Kept(downscaled_cache(decode_options), dict(zip(files, usable.sha256, strict=True)))


def open_for_fastai(
    path: str | Path,
    max_pixels: int = MAX_PIXELS,
    decode_options: DecodeOptions = WHOLE,
    kept: _Kept | None = None,
) -> "PILImage":
    """A fastai PILImage of a file, opened as scoring opens it, or the copy of that.

    Raises TrainError, for the table names only images that could be opened when it was made.
    """
    from fastai.vision.core import PILImage

    image = kept.get(os.fspath(path)) if kept else None
    try:
        return PILImage(image or open_image(path, max_pixels, decode_options=decode_options))
    except BadImage as bad:
        todo = "leave the dataset alone while it is trained on"
        todo = "give fewer --workers" if bad.status == "too_large" else todo  # memory is short
        raise TrainError(
            f"{one_line(encode_name(os.fspath(path)))}: {bad.reason}, and could be read when the table "
            f"was made: {todo}, and run it again"
        ) from bad


def make_learner(table: "pd.DataFrame", folder: str | Path, settings: TrainSettings) -> "Learner":
    """fastai's `vision_learner` for a table, seeded, with error_rate and accuracy.

    Raises SettingsError for an architecture that does not exist and TrainError where its
    pretrained weights cannot be had.
    """
    from fastai.callback import fp16, schedule  # noqa: F401 (they give Learner fine_tune, to_fp16)
    from fastai.metrics import accuracy, error_rate
    from fastai.torch_core import set_seed
    from fastai.vision.learner import vision_learner

    network.check_architecture(settings.architecture)
    loaders = make_dataloaders(table, folder, settings)
    set_seed(settings.seed, reproducible=True)
    with explain_download_errors(settings):
        return vision_learner(
            loaders,
            normalize=False,  # make_dataloaders has done it, whatever the architecture
            pretrained=settings.pretrained != "none",
            metrics=[error_rate, accuracy],
            **_architecture_options(settings, len(loaders.vocab)),
        )


def _architecture_options(settings: TrainSettings, classes: int) -> dict[str, Any]:
    """What tells vision_learner how to make and cut this architecture."""
    from fastai.vision.learner import create_head, default_split, model_meta

    models = network.torchvision_models()
    name = settings.architecture
    if not network.is_torchvision(name):
        overlay = timm_overlay(settings.pretrained)
        return {"arch": name, **({"pretrained_cfg_overlay": overlay} if overlay else {})}
    arch = functools.partial(torchvision_network, settings=settings)
    known = model_meta.get(getattr(models, name), {"split": default_split})
    # vision_learner takes a `cut` and drops it (fastai 2.8); what it reads is its model_meta.
    model_meta[arch] = {"cut": network.cut_of(name), "split": known["split"]}
    options = {"arch": arch}
    if network.pools_itself(name):
        features = network.whole_features(name, settings.image_size)
        options["custom_head"] = create_head(features, classes, pool=False)
    return options


def _file_of(row: Any, folder: str) -> str:
    return os.path.join(folder, decode_name(row.path))
