"""Top losses: the validation images with the most confident wrong labels, and Grad-CAM heat maps.

They are only for the report, and not part of the artifact.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from visionflows.evaluation.gradcam import heat_maps
from visionflows.images.image_status import BadImage
from visionflows.images.open import pixels
from visionflows.reports.thumbnails import draw_heat_map, encode_pixels
from visionflows.reports.training import TopLoss
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.training.pretrained_weights import normalisation

if TYPE_CHECKING:
    from fastai.learner import Learner
    from torch import nn

log = logging.getLogger("visionflows.top_losses")

MAX_IMAGES = 12
_JSON = "top_losses/top_losses.json"


class WrongLabel(NamedTuple):
    """A wrong label of a validation image, by the number of that.

    `label` and `predicted` are the labels as texts. `class_` is the index of the wrong one, and
    `probability` is that of the mistake: of the class, or of its absence.
    """

    image: int
    label: str
    predicted: str
    class_: int
    probability: float


def write_top_losses(
    learn: "Learner", folder: str | Path, wrong: Sequence[WrongLabel], checkpoint: LocalStorage
) -> None:
    """Write the images with wrong labels to top_losses/, most confident first, 12 at most.

    `wrong` is in that order, of the learner's validation images in `folder`. Images that can no
    longer be read are left out.
    """
    paths = list(learn.dls.valid.items.path)
    first = {one.image: one for one in reversed(wrong)}  # an image is shown once
    shown = [one for one in wrong if first[one.image] is one][:MAX_IMAGES]
    read = {one: _read_pixels(learn, Path(folder) / decode_name(paths[one.image])) for one in shown}
    images = {one: image for one, image in read.items() if image is not None}
    maps = _heat_maps(learn, [*images.values()], [int(one.class_) for one in images])
    rows = []
    for number, (one, image) in enumerate(images.items()):
        checkpoint.write(f"top_losses/{number}.jpg", encode_pixels(image))
        if maps is not None:
            checkpoint.write(f"top_losses/{number}-heat.jpg", draw_heat_map(image, maps[number]))
        mistake = learn.dls.vocab[one.class_] if learn.multi_label else ""
        row = [paths[one.image], one.label, one.predicted, float(one.probability), mistake]
        rows.append(row)
    checkpoint.write(_JSON, json.dumps(rows).encode())


def read_top_losses(checkpoint: LocalStorage) -> list[TopLoss]:
    """Return the top losses of a checkpoint."""
    found = []
    for number, row in enumerate(json.loads(checkpoint.read(_JSON))):
        image, heat = (f"top_losses/{number}{suffix}.jpg" for suffix in ("", "-heat"))
        heat_map = checkpoint.read(heat) if checkpoint.exists(heat) else b""
        *values, mistake = row
        found.append(TopLoss._make([*values, checkpoint.read(image), heat_map, mistake]))
    return found


def _read_pixels(learn: "Learner", file: Path) -> np.ndarray | None:
    """Return the pixels that the network gets; None if the file can no longer be read."""
    settings = learn.settings
    shape = settings.image_size, settings.resize
    try:
        return pixels(file, *shape, settings.max_pixels, decode_options=settings.decode_options)
    except BadImage as bad:
        log.warning("%s: %s; left out of the top losses", encode_name(str(file)), bad.reason)
        return None


def _heat_maps(
    learn: "Learner", images: list[np.ndarray], predicted: list[int]
) -> np.ndarray | None:
    """Return the heat map of each predicted class; None for a body that pools itself."""
    import torch

    if not images:
        return None
    network = cast("nn.Sequential", learn.model).eval()
    mean, std = torch.tensor(normalisation(learn.settings.architecture))
    inputs = ((torch.from_numpy(np.stack(images)) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        features = network[0](inputs.to(learn.dls.device)).float().cpu().numpy()
    head = {f"1.{name}": value.cpu().numpy() for name, value in network[1].state_dict().items()}
    return heat_maps(features, head, predicted, learn.multi_label)
