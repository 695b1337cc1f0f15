"""The fastai Learner of a labelled file table."""

import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionflows.models import network
from visionflows.training.dataloaders import make_dataloaders
from visionflows.training.pretrained_weights import (
    explain_download_errors,
    timm_overlay,
    torchvision_network,
)
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd
    from fastai.learner import Learner

# torch's generators belong to the process: hold this lock while making or training a learner, so
# that no other thread seeds them or draws from them.
torch_random_lock = threading.RLock()


def make_learner(table: "pd.DataFrame", folder: str | Path, settings: TrainSettings) -> "Learner":
    """Return fastai's `vision_learner` for a table, seeded, with error_rate and accuracy.

    Raises SettingsError for an unknown architecture and TrainError if its pretrained weights
    cannot be downloaded.
    """
    from fastai.callback import fp16, schedule  # noqa: F401 (they give Learner fine_tune, to_fp16)
    from fastai.metrics import accuracy, error_rate
    from fastai.torch_core import set_seed
    from fastai.vision.learner import vision_learner

    network.check_architecture(settings.architecture)
    loaders = make_dataloaders(table, folder, settings)
    set_seed(settings.seed, reproducible=True)
    with explain_download_errors(settings):
        learn = vision_learner(
            loaders,
            normalize=False,  # make_dataloaders normalises
            pretrained=settings.pretrained != "none",
            metrics=[error_rate, accuracy],
            **_architecture_options(settings, len(loaders.vocab)),
        )
    learn.settings = settings
    return learn


def _architecture_options(settings: TrainSettings, classes: int) -> dict[str, Any]:
    """Return the arguments of vision_learner that make and cut this architecture."""
    from fastai.vision.learner import create_head, default_split, model_meta

    models = network.import_torchvision_models()
    name = settings.architecture
    if not network.is_torchvision(name):
        overlay = timm_overlay(settings.pretrained)
        return {"arch": name, **({"pretrained_cfg_overlay": overlay} if overlay else {})}
    arch = functools.partial(torchvision_network, settings=settings)
    known = model_meta.get(getattr(models, name), {"split": default_split})
    # vision_learner ignores its argument `cut` (fastai 2.8) and reads model_meta instead.
    model_meta[arch] = {"cut": network.body_cut(name), "split": known["split"]}
    options = {"arch": arch}
    if network.pools_itself(name):
        features = network.uncut_features(name, settings.image_size)
        options["custom_head"] = create_head(features, classes, pool=False)
    return options
