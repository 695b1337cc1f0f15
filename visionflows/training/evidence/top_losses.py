"""The worst misses of a network, each with a picture of what spoke for the wrong label.

    from visionflows.training.evidence.top_losses import misses_in, write_misses
    write_misses(learn, ValidationPredictions(folder, paths, probabilities, targets), draft)    # misses/ in it
    training_report(info, pictures, summary, misses_in(draft))

They are for the page alone, and no part of the bundle.
"""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from visionflows.evaluation.gradcam import heat_maps
from visionflows.images.image_status import BadImage
from visionflows.images.open import pixels
from visionflows.reports.gradcam_images import heated, square
from visionflows.reports.training import TopLoss
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.training.learner import normalisation

if TYPE_CHECKING:
    from fastai.learner import Learner
    from torch import nn

log = logging.getLogger("visionflows.misses")

MOST = 12
_TOLD = "misses/misses.json"


class ValidationPredictions(NamedTuple):
    """Validation images: where they lie, their probabilities (n, classes), their classes (n)."""

    folder: str | Path
    paths: list[str]
    answers: np.ndarray
    targets: np.ndarray


def write_top_losses(
    learn: "Learner", judged: ValidationPredictions, checkpoint: LocalStorage
) -> None:
    """Leave in a draft the images whose label is wrong, the surest first; 12 at most.

    One that is gone by now is left out.
    """
    paths, targets = judged.paths, judged.targets
    said = judged.answers.argmax(1)
    sure = np.where(said == targets, -1, judged.answers.max(1))
    worst = [int(at) for at in np.argsort(-sure, kind="stable")[:MOST] if sure[at] >= 0]
    found = [_shown(learn, Path(judged.folder) / decode_name(paths[at])) for at in worst]
    worst = [at for at, one in zip(worst, found, strict=True) if one is not None]
    shown = [one for one in found if one is not None]
    maps = _maps(learn, shown, [int(said[at]) for at in worst]) if worst else None
    told = []
    for number, at in enumerate(worst):
        checkpoint.write(f"misses/{number}.jpg", square(shown[number]))
        if maps is not None:
            checkpoint.write(f"misses/{number}-why.jpg", heated(shown[number], maps[number]))
        label, answer = learn.dls.vocab[targets[at]], learn.dls.vocab[said[at]]
        told.append([paths[at], label, answer, float(sure[at])])
    checkpoint.write(_TOLD, json.dumps(told).encode())


def read_top_losses(checkpoint: LocalStorage) -> list[TopLoss]:
    """The misses that a draft has; none of one that an older version has left."""
    if not checkpoint.exists(_TOLD):
        return []
    told = enumerate(json.loads(checkpoint.read(_TOLD)))
    return [
        TopLoss(path, label, said, sure, checkpoint.read(f"misses/{at}.jpg"), _why(checkpoint, at))
        for at, (path, label, said, sure) in told
    ]


def _why(checkpoint: LocalStorage, number: int) -> bytes:
    name = f"misses/{number}-why.jpg"
    return checkpoint.read(name) if checkpoint.exists(name) else b""


def _shown(learn: "Learner", file: Path) -> np.ndarray | None:
    """What the network is shown of a file; None where that can no longer be read."""
    settings = learn.settings
    shape = settings.image_size, settings.resize
    try:
        return pixels(file, *shape, settings.max_pixels, decode_options=settings.decode_options)
    except BadImage as bad:
        log.warning("%s: %s; it is no miss that is shown", encode_name(str(file)), bad.reason)
        return None


def _maps(learn: "Learner", shown: list[np.ndarray], told: list[int]) -> np.ndarray | None:
    """Where each image spoke for what it was told to be; None for a body that pools by itself."""
    import torch

    network = cast("nn.Sequential", learn.model).eval()
    mean, deviation = torch.tensor(normalisation(learn.settings.architecture))
    images = ((torch.from_numpy(np.stack(shown)) / 255 - mean) / deviation).permute(0, 3, 1, 2)
    with torch.inference_mode():
        features = network[0](images.to(learn.dls.device)).float().cpu().numpy()
    head = {f"1.{name}": one.cpu().numpy() for name, one in network[1].state_dict().items()}
    return heat_maps(features, head, told)
