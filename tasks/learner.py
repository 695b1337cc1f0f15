"""The fastai learner of a labelled file table: what fine_tune trains and evaluate looks at.

from tasks.learner import TrainSettings, make_learner
learn = make_learner(table, "store/datasets/pets-5c1a3d0f", TrainSettings(architecture="resnet18"))
learn.fine_tune(1)
"""

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks import network
from tasks.copies import local_file
from tasks.errors import SettingsError, TrainError
from tasks.images import MAX_PIXELS, ResizeMethod, open_image
from tasks.storage import name_of

if TYPE_CHECKING:
    import pandas as pd
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner

# torchvision's pretrained weights were all trained on pixels normalised so.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TrainSettings(BaseModel):
    """How to fine-tune; the defaults are the fastai tutorial's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str = Field("resnet34", description="A torchvision or timm architecture.")
    pretrained: str = Field(
        "default",
        description="`default` downloads the architecture's weights, `none` starts from nothing, "
        "anything else is the place of a state dict (.safetensors or .pth).",
    )
    image_size: int = Field(224, ge=8, le=2048, description="Side of the square shown, in pixels.")
    resize: ResizeMethod = Field("crop", description="How an image becomes that square.")
    epochs: int = Field(1, ge=1, le=1000, description="Epochs after the frozen ones.")
    freeze_epochs: int | None = Field(
        None, ge=0, le=1000, description="Epochs with the body frozen; 1, or 0 without pretrained."
    )
    lr: float | Literal["find"] = Field(
        2e-3, description="Base learning rate, or `find` to let fastai's lr_find choose it."
    )
    batch_size: int = Field(
        64, ge=2, le=4096, description="Images a step; halved when out of memory."
    )
    augment: bool = Field(True, description="Flip, rotate, zoom, light: fastai's aug_transforms.")
    seed: int = Field(42, ge=0, description="Seed of split, weights, order and augmentation.")
    patience: int = Field(
        0, ge=0, description="Stop after so many epochs without a better one; 0: never."
    )
    keep: Literal["best", "last"] = Field(
        "best", description="Weights of the best epoch or the last."
    )
    precision: Literal["auto", "float32"] = Field(
        "auto", description="`auto` trains in bf16 or fp16 on a GPU; `float32` never does."
    )
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="Larger images are left out.")
    workers: int | None = Field(
        None, ge=0, description="Loader processes; as many as cores by default."
    )

    @property
    def frozen_epochs(self) -> int:
        """Epochs with the body frozen: a body of random weights has nothing worth freezing."""
        if self.freeze_epochs is not None:
            return self.freeze_epochs
        return 0 if self.pretrained == "none" else 1

    @property
    def lr_mult(self) -> float:
        """How many times slower the first layers learn: fastai's 100; 1 without pretrained."""
        return 1 if self.pretrained == "none" else 100


def normalisation(architecture: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and standard deviation, a channel each, an architecture's weights expect."""
    if network.is_torchvision(architecture):
        return IMAGENET_MEAN, IMAGENET_STD
    import timm

    config = timm.get_pretrained_cfg(architecture)
    return (config.mean, config.std) if config else (IMAGENET_MEAN, IMAGENET_STD)


def make_loaders(
    table: "pd.DataFrame", folder: str | Path, settings: TrainSettings
) -> "DataLoaders":
    """fastai's DataLoaders over the usable rows of a table, images opened as for scoring.

    The classes are the sorted labels. Augmentation is fastai's `aug_transforms`, without
    flips upside down.
    """
    from fastai.data.block import CategoryBlock, DataBlock, TransformBlock
    from fastai.data.transforms import ColReader, ColSplitter, IntToFloatTensor, Normalize
    from fastai.vision.augment import Resize, aug_transforms

    usable = table[table.status == "ok"].reset_index(drop=True)
    augmentations = aug_transforms() if settings.augment else []
    block = DataBlock(
        blocks=(
            TransformBlock(
                type_tfms=functools.partial(open_for_fastai, max_pixels=settings.max_pixels),
                batch_tfms=IntToFloatTensor,
            ),
            CategoryBlock(vocab=sorted(usable.label.unique())),
        ),
        get_x=functools.partial(_file_of, folder=os.fspath(folder)),
        get_y=ColReader("label"),
        splitter=ColSplitter("is_valid"),
        item_tfms=Resize(settings.image_size, method=settings.resize),
        batch_tfms=[*augmentations, Normalize.from_stats(*normalisation(settings.architecture))],
    )
    workers = settings.workers
    if workers is None:
        workers = min(len(os.sched_getaffinity(0)), 16)
    batch_size = min(settings.batch_size, int((~usable.is_valid.astype(bool)).sum()))
    return block.dataloaders(usable, bs=batch_size, num_workers=workers)


def open_for_fastai(path: str | Path, max_pixels: int = MAX_PIXELS):
    """A fastai PILImage of a file, opened as scoring opens it. Raises images.BadImage."""
    from fastai.vision.core import PILImage

    return PILImage(open_image(path, max_pixels))


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
    set_seed(settings.seed, reproducible=True)
    loaders = make_loaders(table, folder, settings)
    set_seed(settings.seed, reproducible=True)
    with _weights_line(settings):
        return vision_learner(
            loaders,
            normalize=False,  # make_loaders has done it, whatever the architecture
            pretrained=settings.pretrained != "none",
            metrics=[error_rate, accuracy],
            **_architecture_options(settings, len(loaders.vocab)),
        )


def _architecture_options(settings: TrainSettings, classes: int) -> dict:
    """What tells vision_learner how to make and cut this architecture."""
    from fastai.vision.learner import create_head, default_split, model_meta

    models = network.torchvision_models()
    name = settings.architecture
    if not network.is_torchvision(name):
        overlay = _timm_weights(settings.pretrained)
        return {"arch": name, **({"pretrained_cfg_overlay": overlay} if overlay else {})}
    arch = functools.partial(_torchvision_network, settings=settings)
    known = model_meta.get(getattr(models, name), {"split": default_split})
    # vision_learner takes a `cut` and drops it (fastai 2.8); what it reads is its model_meta.
    model_meta[arch] = {"cut": network.cut_of(name), "split": known["split"]}
    options = {"arch": arch}
    if network.pools_itself(name):
        features = network.whole_features(name, settings.image_size)
        options["custom_head"] = create_head(features, classes, pool=False)
    return options


def _torchvision_network(pretrained: bool, settings: TrainSettings):
    name, size = settings.architecture, settings.image_size
    if not pretrained:
        return network.backbone(name, size)
    if settings.pretrained == "default":
        return network.backbone(name, size, weights="DEFAULT")
    model = network.backbone(name, size)
    _load_state(model, settings.pretrained)
    return model


def _load_state(model, where: str) -> None:
    """Load a state dict of the whole architecture, with or without its own classifier."""
    state = _read_state(where)
    own = model.state_dict()
    fitting = {key: value for key, value in state.items() if _fits(own, key, value)}
    body = [key for key in own if key not in fitting]
    classifier = {key.rpartition(".")[0] for key in list(own)[-2:]}
    lacking = [key for key in body if key.rpartition(".")[0] not in classifier]
    if lacking:
        raise TrainError(
            f"{where}: not weights of this architecture ({len(lacking)} tensors are missing or of "
            f"another shape, such as {lacking[0]}); give the state dict of the same --arch"
        )
    model.load_state_dict(fitting, strict=False)


def _fits(own: dict, key: str, value) -> bool:
    return key in own and own[key].shape == value.shape


def _read_state(where: str) -> dict:
    """The tensors of a .safetensors or .pth file; nothing in it is executed."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    where = local_file(where)
    if not Path(where).is_file():
        raise SettingsError(
            f"{where}: no such file of weights; --pretrained takes default, none or a file"
        )
    try:
        if where.endswith(".safetensors"):
            return load_file(where)
        return torch.load(where, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise TrainError(
            f"{where}: not a plain state dict ({str(error).splitlines()[0]}); save it with "
            "safetensors or torch.save(model.state_dict())"
        ) from error


def _timm_weights(pretrained: str) -> dict | None:
    if pretrained in ("default", "none"):
        return None
    pretrained = local_file(pretrained)
    if not Path(pretrained).is_file():
        raise SettingsError(
            f"{pretrained}: no such file of weights; name a .safetensors or .pth file"
        )
    return {"file": pretrained}


class _weights_line:
    """Tell in one line that pretrained weights cannot be fetched, whatever tried to."""

    def __init__(self, settings: TrainSettings):
        self.settings = settings

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> None:
        settings = self.settings
        # urllib's, huggingface_hub's and requests' network errors all are OSErrors; a
        # ValueError is torchvision saying that the weights want another image size.
        if settings.pretrained == "default" and isinstance(error, (OSError, ValueError)):
            raise TrainError(
                f"{settings.architecture}: its pretrained weights cannot be had ({error}); "
                "give --pretrained none, or --pretrained PLACE of a state dict"
            ) from error


def _file_of(row, folder: str) -> str:
    return os.path.join(folder, name_of(row.path))
