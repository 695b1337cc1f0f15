"""The fastai Learner of a labelled file table.

Import this module inside functions only, as fastai takes seconds to import.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from fastai.callback import fp16, schedule  # noqa: F401 (they give Learner fine_tune, to_fp16)
from fastai.callback.mixup import MixUp
from fastai.layers import AdaptiveConcatPool2d
from fastai.learner import Learner
from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat
from fastai.metrics import AccumMetric, ActivationType, accuracy, error_rate
from fastai.torch_core import set_seed
from fastai.vision.learner import create_head, default_split, model_meta, vision_learner

from visionflows.evaluation.label_metrics import LABEL_METRICS, label_summary
from visionflows.evaluation.metrics import count_classes, summary_metrics
from visionflows.label_sets import is_multi_label
from visionflows.models import network
from visionflows.training.class_weights import class_weights
from visionflows.training.dataloaders import make_dataloaders
from visionflows.training.mixed_precision import enable_mixed_precision
from visionflows.training.pretrained_weights import (
    loading_weights,
    timm_overlay,
    torchvision_network,
)
from visionflows.training.settings import TrainSettings


def make_learner(
    table: pd.DataFrame,
    folder: str | Path,
    settings: TrainSettings,
    classes: Sequence[str] | None = None,
) -> Learner:
    """Return fastai's `vision_learner` for a table, seeded, with the head of the settings.

    `classes` are by default those of the table. Raises SettingsError for an unknown architecture
    and TrainError if its pretrained weights cannot be downloaded.
    """
    network.check_architecture(settings.architecture)
    loaders = make_dataloaders(table, folder, settings, classes)
    set_seed(settings.seed, reproducible=True)
    with loading_weights(settings):
        learn = vision_learner(
            loaders,
            normalize=False,  # make_dataloaders normalises
            pretrained=settings.pretrained != "none",
            metrics=epoch_metrics(is_multi_label(table)),
            **_architecture_options(settings, len(loaders.vocab)),
        )
    learn.settings, learn.multi_label = settings, is_multi_label(table)
    if settings.head == "linear":
        _use_linear_head(learn)
    return learn


def epoch_metrics(multi_label: bool) -> list[Any]:
    """fastai's metrics of every epoch; with several labels their thresholds are 0.5."""
    if multi_label:
        return [*map(_label_metric, LABEL_METRICS)]

    def metric(name: str) -> AccumMetric:
        def measure(predicted: np.ndarray, targets: np.ndarray) -> float:
            classes = int(max(predicted.max(), targets.max())) + 1
            return summary_metrics(count_classes(predicted, targets, classes))[name]

        return AccumMetric(measure, dim_argmax=-1, to_np=True, name=name)

    return [error_rate, accuracy, metric("balanced_accuracy"), metric("macro_f1")]


def _label_metric(name: str) -> AccumMetric:
    def measure(scores: np.ndarray, targets: np.ndarray) -> float:
        return label_summary(scores >= 0.5, targets > 0, scores)[name]

    options = {"activation": ActivationType.Sigmoid, "flatten": False, "to_np": True}
    return AccumMetric(measure, name=name, **options)


def prepare_training(learn: Learner, settings: TrainSettings) -> None:
    """Give a learner the loss, the weight decay and the callbacks of the settings.

    `learn.mixed_precision` then names its precision.
    """
    learn.loss_func = BCEWithLogitsLossFlat() if learn.multi_label else _class_loss(learn, settings)
    learn.wd = settings.weight_decay
    if settings.mixup:
        learn.add_cb(MixUp(settings.mixup))
    learn.mixed_precision = enable_mixed_precision(learn, settings)


def _class_loss(learn: Learner, settings: TrainSettings) -> CrossEntropyLossFlat:
    of_classes = class_weights(learn.dls.train.items.label, learn.dls.vocab, settings.balance)
    weights = torch.tensor(of_classes, dtype=torch.float32)
    options = {"weight": weights.to(learn.dls.device)} if settings.balance != "none" else {}
    return CrossEntropyLossFlat(label_smoothing=settings.label_smoothing or 0, **options)


def _use_linear_head(learn: Learner) -> None:
    head = learn.model[1]
    inputs = next(layer.num_features for layer in head if isinstance(layer, torch.nn.BatchNorm1d))
    pool = isinstance(head[0], AdaptiveConcatPool2d)
    features = inputs // 2 if pool else inputs  # fastai's head gets their maxima and their means
    learn.model[1] = network.linear_head(features, len(learn.dls.vocab), pool=pool)
    learn.model.to(learn.dls.device)
    learn.opt = None  # of the other head's weights; fastai makes a new one when it needs one


def _architecture_options(settings: TrainSettings, classes: int) -> dict[str, Any]:
    """Return the arguments of vision_learner that make and cut this architecture."""
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
