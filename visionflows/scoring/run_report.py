"""Grad-CAM heat maps of the least certain labels, for the report of a run."""

import dataclasses

import numpy as np

from visionflows.evaluation.gradcam import heat_maps
from visionflows.images.image_status import BadImage
from visionflows.images.open import pixels
from visionflows.inference.openvino import feature_maps
from visionflows.label_sets import split_labels
from visionflows.models.artifact import Model
from visionflows.reports.scoring import Sample, Samples, collect_samples
from visionflows.reports.thumbnails import draw_heat_map, read_content
from visionflows.scoring.schema import RunResult
from visionflows.storage.base import Storage

MIN_FILES_FOR_HEAT_MAPS = 100  # for fewer files, heat maps would take much of the run's time


def explain_samples(run: RunResult, model: Model, source: Storage, output: Storage) -> Samples:
    """The samples of a report, the least certain with a heat map if the network allows it."""
    samples = collect_samples(run, source, output)
    if run.counts.ok < MIN_FILES_FOR_HEAT_MAPS:
        return samples
    shown = [one for one in samples.least_certain if one.label]
    opened = {one: _read_pixels(model, source, one.path) for one in shown}
    images = {one: image for one, image in opened.items() if image is not None}
    drawn = _draw_heat_maps(model, images)
    least = samples.least_certain
    explained = [dataclasses.replace(one, heat_map=drawn.get(one, b"")) for one in least]
    return dataclasses.replace(samples, least_certain=explained)


def _read_pixels(model: Model, source: Storage, path: str) -> np.ndarray | None:
    """A file as the network's input; None if it is gone or changed."""
    info = model.info
    try:
        data = read_content(source, path)
        return pixels(data, info.image_size, info.resize, decode_options=info.decode_options())
    except (BadImage, OSError):
        return None


def _draw_heat_maps(model: Model, images: dict[Sample, np.ndarray]) -> dict[Sample, bytes]:
    """A JPEG of each sample; empty if the network has no feature maps."""
    import safetensors.numpy

    features = feature_maps(model, np.stack([*images.values()])) if images else None
    if features is None:
        return {}
    several = model.info.multi_label  # of several labels, the first is explained
    names = [split_labels(one.label)[0] if several else one.label for one in images]
    labels = [*map(model.classes.index, names)]
    weights = safetensors.numpy.load(model.files.read("weights.safetensors"))
    head = {name: array for name, array in weights.items() if name.startswith("1.")}
    maps = heat_maps(features, head, labels, several)
    if maps is None:
        return {}
    return {
        sample: draw_heat_map(image, heat)
        for (sample, image), heat in zip(images.items(), maps, strict=True)
    }
