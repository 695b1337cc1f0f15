"""Recipes: the ways to train a network.

auto     a linear probe, then fine-tuning from its head; the better of both is published. Kumar et
         al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution,
         ICLR 2022 (LP-FT)
probe    the linear probe
fastai   fastai's fine_tune, as in its tutorial

Import this module inside functions only, as fastai takes seconds to import.
"""

import dataclasses
import functools
import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from fastai.learner import Learner

from visionflows.datasets.split import same_side_ids
from visionflows.errors import TrainError
from visionflows.evaluation.label_decisions import fit_decision_thresholds, sigmoid
from visionflows.label_sets import indicators
from visionflows.storage.local import LocalStorage
from visionflows.training.class_weights import class_weights
from visionflows.training.features import frozen_features, read_features, write_features
from visionflows.training.linear_probe import (
    LinearProbe,
    Sample,
    choose_strength,
    fit_probe,
    out_of_fold,
)
from visionflows.training.selection import METRICS, Candidate, Selection, split_for_selection
from visionflows.training.trainer import Trained, Trainer

log = logging.getLogger("visionflows.recipes")

# A fine-tuned candidate is trained again on all training images if it lacked more than this share.
MAX_LACKING = 0.05
# Shares of the work of recipe auto, for its progress: after the features, and after the selection.
FEATURES_DONE, SELECTION_DONE = 0.1, 0.6


def train_by_recipe(trainer: Trainer) -> Trained:
    """Train by the recipe of the settings. Raises TrainError."""
    recipes = {"fastai": _fastai, "probe": _probe, "auto": _auto}
    return recipes[str(trainer.settings.recipe)](trainer)


def _fastai(trainer: Trainer) -> Trained:
    """fastai's fine_tune. If it chooses an epoch, then on a part of the training images."""
    settings, table = trainer.settings, trainer.table
    chooses = settings.keep == "best"
    if chooses:
        table = split_for_selection(table, settings.seed)
        if not table.is_valid.any():
            raise TrainError(
                f"{len(table)} training images are too few to hold some out and choose an epoch; "
                "add images, or leave out --keep best and --patience"
            )
    learn = trainer.learner(table)
    learn.freeze_to(-1)
    trained = trainer.fit(learn, table, "final", keep_best=chooses)
    if not chooses:
        return trained
    thresholds = _thresholds_of_best(trained)
    unfrozen = [row for row in trained.history if row["phase"] == "unfrozen"]
    candidates = [Candidate.of_epoch(row) for row in unfrozen]
    selection = Selection(settings.deciding_metric, int(table.is_valid.sum()), candidates)
    selection.why = f"{selection.best.name} is the best unfrozen epoch"
    return dataclasses.replace(trained, selection=selection.as_dict(), thresholds=thresholds)


def _probe(trainer: Trainer) -> Trained:
    learn = trainer.learner()
    sample = _training_sample(trainer, learn)
    strength = choose_strength(sample)
    log.info("linear probe: C %g, chosen by cross-validation", strength)
    _set_head(learn, fit_probe(sample, strength, len(trainer.classes)))
    return Trained(learn, thresholds=_probe_thresholds(sample, strength))


def _auto(trainer: Trainer) -> Trained:
    """Fit the probe, fine-tune from it if it leaves something to gain, publish the better one."""
    settings = trainer.settings
    parts = split_for_selection(trainer.table, settings.seed)
    if not parts.is_valid.any():
        log.warning("too few training images to hold some out and compare: only a linear probe")
        return _probe(trainer)
    learn = trainer.learner()
    sample = _training_sample(trainer.stage(0, FEATURES_DONE), learn)
    is_selection = parts.is_valid.to_numpy()
    fitting, held_out = sample.at(~is_selection), sample.at(is_selection)
    strength = choose_strength(fitting)
    classes = len(trainer.classes)
    probe = fit_probe(fitting, strength, classes)
    candidate = Candidate.of_probe(probe.logits(held_out.features), held_out.targets)
    selection = Selection(settings.deciding_metric, len(held_out.targets), [candidate])
    names = [name for name in METRICS if name in candidate.metrics]
    values = ", ".join(f"{name} {candidate.metrics[name]:.4f}" for name in names)
    log.info("linear probe (C %g): %s on %d selection images", strength, values, selection.images)
    final = fit_probe(sample, strength, classes)
    publish_probe = functools.partial(_with_probe, learn, final, sample, strength, selection)
    if not selection.can_improve():
        return publish_probe()
    tuned = _fine_tune(trainer.stage(FEATURES_DONE, SELECTION_DONE), parts, probe)
    selection.candidates += [Candidate.of_epoch(row) for row in tuned.history]
    if selection.best is candidate:
        selection.why = "no epoch of the fine-tuning is better than the linear probe"
        return publish_probe()
    thresholds = _thresholds_of_best(tuned)
    selection.why = f"{selection.best.name} of the fine-tuning is better than the linear probe"
    if is_selection.mean() > MAX_LACKING:
        epoch = selection.candidates.index(selection.best)
        log.info("fine-tuning again, on all training images, for %d epochs", epoch)
        tuned = _fine_tune(trainer.stage(SELECTION_DONE, 1), trainer.table, final, epoch)
    log.info("%s", selection.why)
    return dataclasses.replace(tuned, selection=selection.as_dict(), thresholds=thresholds)


def _with_probe(
    learn: Learner, probe: LinearProbe, sample: Sample, strength: float, selection: Selection
) -> Trained:
    log.info("%s", selection.why)
    _set_head(learn, probe)
    thresholds = _probe_thresholds(sample, strength)
    return Trained(learn, selection=selection.as_dict(), thresholds=thresholds)


def _probe_thresholds(sample: Sample, strength: float) -> Sequence[float]:
    """The decision thresholds of several labels, chosen by cross-validation; else none."""
    logits = out_of_fold(sample, strength) if sample.targets.ndim > 1 else None
    return () if logits is None else fit_decision_thresholds(sigmoid(logits), sample.targets)


def _thresholds_of_best(trained: Trained) -> Sequence[float]:
    """The decision thresholds of several labels, chosen on the selection images; else none."""
    learn = trained.learn
    if not learn.multi_label:
        return ()
    with learn.no_bar(), learn.no_logging():
        probabilities, targets = learn.get_preds(ds_idx=1)
    return fit_decision_thresholds(probabilities.numpy(), targets.numpy() > 0)


def _fine_tune(
    trainer: Trainer, table: pd.DataFrame, probe: LinearProbe, stop_after: int = 0
) -> Trained:
    """Fine-tune all layers from a probe's head; the best epoch stays, or the last that is run."""
    learn = trainer.learner(table)
    _set_head(learn, probe)
    name = "final" if stop_after else "selection"
    return trainer.fit(learn, table, name, not stop_after, stop_after)


def _training_sample(trainer: Trainer, learn: Learner) -> Sample:
    """Return the features of the training images, in the order of the table.

    Those of all images are in the checkpoint: the search for label issues uses them, and so does a
    training that resumes.
    """
    table = trainer.table
    images = table[table.status == "ok"].reset_index(drop=True)

    def report(done: int) -> None:
        if trainer.on_progress and done % 64 == 0:
            line = f"features of {done:,} of {len(images):,} images"
            trainer.on_progress(done / len(images), line)

    checkpoint = LocalStorage(trainer.checkpoint)
    features = read_features(checkpoint, images, trainer.settings)
    if features is None:
        features = frozen_features(learn, images, trainer.folder, checkpoint, report)
        write_features(checkpoint, images, features, trainer.settings)
    groups, is_train = same_side_ids(images).to_numpy(), ~images.is_valid.to_numpy(bool)
    if trainer.multi_label:
        targets = indicators(list(images.label), trainer.classes)
        return Sample(features, targets, groups, np.ones(len(images))).at(is_train)
    index = {name: at for at, name in enumerate(trainer.classes)}
    targets = images.label.map(index).to_numpy()
    weights = class_weights(images.label[is_train], trainer.classes, trainer.settings.balance)
    return Sample(features, targets, groups, weights[targets]).at(is_train)


def _set_head(learn: Learner, probe: LinearProbe) -> None:
    layer = learn.model[1][-1]
    with torch.no_grad():
        for tensor, values in ((layer.weight, probe.weight), (layer.bias, probe.bias)):
            tensor.copy_(torch.from_numpy(values.astype(np.float32)))
