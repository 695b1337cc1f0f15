"""The page of a run: its figures, its samples, and why the least certain got their labels.

    from visionflows.scoring.run_report import run_page
    run_page(run, model, place("inbox"), place("scores/night"))          # HTML

The last costs a pass a picture, twelve at most, and half a second of a core to begin: a run of few
files goes without.
"""

import dataclasses

import numpy as np

from visionflows.evaluation.gradcam import heat_maps
from visionflows.images.image_status import BadImage
from visionflows.images.open import pixels
from visionflows.inference.features import feature_maps
from visionflows.models.artifact import Model
from visionflows.reports.gradcam_images import draw_heat_map
from visionflows.reports.scoring import Sample, Samples, collect_samples, render_scoring_report
from visionflows.reports.thumbnails import read_content
from visionflows.scoring.schema import RunResult
from visionflows.storage.base import Storage

FEW = 100  # files: below that, it would be a good part of what a run takes


def run_page(run: RunResult, model: Model, source: Storage, output: Storage) -> str:
    """The HTML page of a run that was merged into `output`, with pictures from its source."""
    return render_scoring_report(run, explained_samples(run, model, source, output))


def explained_samples(run: RunResult, model: Model, source: Storage, output: Storage) -> Samples:
    """What to show of a run, the least certain with a picture of what spoke for their label.

    Without one where OpenVINO lacks the network, and where that pools by itself: see feature_maps.
    """
    samples = collect_samples(run, source, output)
    if run.counts.ok < FEW:
        return samples
    shown = {sample: _pixels(model, source, sample.path) for sample in samples.least_certain}
    squares = {sample: square for sample, square in shown.items() if square is not None}
    heat_maps_shown = _heated(model, squares)
    least = [
        dataclasses.replace(one, heat_map=heat_maps_shown.get(one, b""))
        for one in samples.least_certain
    ]
    return dataclasses.replace(samples, least_certain=least)


def _pixels(model: Model, source: Storage, path: str) -> np.ndarray | None:
    """What the network is shown of a file; None for one that is gone or changed by now."""
    info = model.info
    try:
        data = read_content(source, path)
        return pixels(data, info.image_size, info.resize, decode_options=info.decode_options())
    except (BadImage, OSError):
        return None


def _heated(model: Model, squares: dict[Sample, np.ndarray]) -> dict[Sample, bytes]:
    """A JPEG of each sample; none where the network does not say."""
    features = feature_maps(model, np.stack([*squares.values()])) if squares else None
    if features is None:
        return {}
    told = [model.classes.index(sample.label) for sample in squares]
    maps = heat_maps(features, _head(model), told)
    if maps is None:
        return {}
    every = zip(squares.items(), maps, strict=True)
    return {sample: draw_heat_map(square, heat) for (sample, square), heat in every}


def _head(model: Model) -> dict[str, np.ndarray]:
    """The weights of the network's head, by name."""
    from safetensors.numpy import load

    weights = load(model.files.read("weights.safetensors"))
    return {name: array for name, array in weights.items() if name.startswith("1.")}
