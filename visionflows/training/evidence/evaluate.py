"""Judge a fine-tuned network on the validation side, in figures and in pictures.

    from visionflows.training.evidence.evaluate import evaluate_checkpoint
    evaluate_checkpoint(table, "store/datasets/pets-5c1a3d0f", Path("draft"))["error_rate"]

Reads the draft that fine_tune left, and adds `evaluation.json`, `validation.csv` (what it says of
each validation image), `pictures/*.png` (what fastai's show_batch, show_results and Interpretation
draw), `misses/` (the worst of them, for the page) and `selfcheck/`: a few small images with the
probabilities that whoever loads these weights must get from them.
"""

import csv
import io
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visionflows.evaluation.calibration import calibrated
from visionflows.images.image_status import BadImage
from visionflows.images.open import open_image
from visionflows.images.resize import resize_image
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name
from visionflows.training.evidence.fit_calibration import fit_calibration, validation_csv
from visionflows.training.evidence.plots import draw
from visionflows.training.evidence.top_losses import ValidationPredictions, write_top_losses
from visionflows.training.learner import make_learner, normalisation, torch_random_lock
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd
    from fastai.learner import Learner

log = logging.getLogger("visionflows.evaluate")

SELFCHECK_IMAGES = 8


def evaluate_checkpoint(
    table: "pd.DataFrame", folder: str | Path, checkpoint: Path, export_fastai: bool = False
) -> dict[str, Any]:
    """The metrics of the draft's network on the validation rows (evaluation.json).

    `export_fastai` also leaves `export.pkl`, which fastai's load_learner opens without
    visionflows; it opens images as fastai does, without their EXIF orientation.

    Keys: error_rate, accuracy, valid_loss, by_class (precision, recall and count of each),
    confusion (rows: actual, columns: predicted, in the order of the classes), calibration (see
    training.calibration); where a picture could not be drawn, pictures_left_out: why, by its name.
    """
    storage = LocalStorage(checkpoint)
    training = json.loads(storage.read("training.json"))
    with torch_random_lock:
        learn = trained(table, folder, storage, training)
        with learn.no_bar(), learn.no_logging():
            *answers, losses = learn.get_preds(ds_idx=1, with_loss=True)
            probabilities, targets = (one.numpy() for one in answers)
            metrics = _metrics(probabilities, targets, list(learn.dls.vocab))
            metrics["valid_loss"] = float(losses.mean())
            metrics["calibration"] = _calibrate(learn, probabilities, targets, storage)
            pictures, left_out = draw(learn, metrics, training["history"])
            for name, png in pictures.items():
                storage.write(f"pictures/{name}.png", png)
            sure = calibrated(probabilities, metrics["calibration"]["temperature"])
            paths = list(learn.dls.valid.items.path)
            write_top_losses(learn, ValidationPredictions(folder, paths, sure, targets), storage)
            _write_selfcheck(learn, table, folder, storage)
        if left_out:
            metrics["pictures_left_out"] = left_out
        storage.write("evaluation.json", json.dumps(metrics, indent=2).encode())
        if export_fastai:
            _export(learn, checkpoint)
    log.info(
        "validation: error rate %.4f, accuracy %.4f on %d images",
        *(metrics["error_rate"], metrics["accuracy"], len(targets)),
    )
    return metrics


def trained(
    table: "pd.DataFrame", folder: str | Path, storage: LocalStorage, training: dict[str, Any]
) -> "Learner":
    """The learner of the draft, its weights in float32."""
    from safetensors.torch import load

    settings = TrainSettings(**training["settings"] | {"pretrained": "none"})
    learn = make_learner(table, folder, settings)
    learn.settings = settings
    learn.model.load_state_dict(load(storage.read("weights.safetensors")))
    return learn


def _calibrate(
    learn: "Learner", probabilities: np.ndarray, targets: np.ndarray, storage: LocalStorage
) -> dict[str, Any]:
    """How sure the network may be believed; what it says of each validation image is written."""
    valid = learn.dls.valid.items
    once = ~valid.sha256.duplicated().to_numpy()  # copies are no evidence of their own
    valid, targets, probabilities = valid[once], targets[once], probabilities[once]
    found = fit_calibration(probabilities, targets, list(valid.sha256))
    told = validation_csv(
        list(valid.path), list(learn.dls.vocab), targets, probabilities, found["temperature"]
    )
    storage.write("validation.csv", told)
    return found


def _metrics(probabilities: np.ndarray, targets: np.ndarray, classes: list[str]) -> dict[str, Any]:
    predicted = probabilities.argmax(1)
    confusion = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(confusion, (targets, predicted), 1)
    right = confusion.diagonal()
    called, count = confusion.sum(0), confusion.sum(1)
    accuracy = float(right.sum() / max(len(targets), 1))
    return {
        "error_rate": 1 - accuracy,
        "accuracy": accuracy,
        "by_class": [
            {
                "class": name,
                "precision": float(right[at] / called[at]) if called[at] else None,
                "recall": float(right[at] / count[at]) if count[at] else None,
                "count": int(count[at]),
            }
            for at, name in enumerate(classes)
        ],
        "confusion": confusion.tolist(),
    }


def _write_selfcheck(
    learn: "Learner", table: "pd.DataFrame", folder: str | Path, storage: LocalStorage
) -> None:
    """A few validation images at the network's own size, as PNG, and what fastai says of them.

    Computed on the CPU in float32, which every machine repeats to rounding.
    """
    import pandas as pd

    settings = learn.settings
    shape = settings.image_size, settings.resize
    names: list[str] = []
    for path in _spread(table):
        buffer = io.BytesIO()
        file = Path(folder) / decode_name(path)
        try:
            image = open_image(file, settings.max_pixels, decode_options=settings.decode_options)
        except BadImage as bad:  # by now; the next one does as well
            log.warning("%s: %s; the self-check is made of others", path, bad.reason)
            continue
        resize_image(image, *shape).save(buffer, "PNG")
        names.append(f"{len(names)}.png")
        storage.write(f"selfcheck/{names[-1]}", buffer.getvalue())
        if len(names) == SELFCHECK_IMAGES:
            break
    learn.dls.cpu()
    learn.model.cpu()
    files = pd.DataFrame(
        {"path": [str(storage.path(f"selfcheck/{name}").absolute()) for name in names]}
    )
    probabilities, _ = learn.get_preds(dl=learn.dls.test_dl(files, num_workers=0))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["image", *learn.dls.vocab])
    for name, row in zip(names, probabilities.tolist(), strict=True):
        writer.writerow([name, *(f"{value:.9g}" for value in row)])
    storage.write("selfcheck/expected.csv", text.getvalue().encode())


def _spread(table: "pd.DataFrame") -> list[str]:
    """Paths of the validation images, one of each class before there is another of one."""
    valid = table[(table.status == "ok") & table.is_valid.astype(bool)]
    turn = valid.groupby("label").cumcount()
    return list(valid.assign(turn=turn).sort_values(["turn", "path"]).path)


def _export(learn: "Learner", checkpoint: Path) -> None:
    """A learner of fastai's own pieces alone, so that it opens where visionflows is not.

    fastai makes it of images, which it opens and does not keep: those of the self-check, as of
    the training's own there may be some that Pillow alone cannot open.
    """
    import pandas as pd
    from fastai.data.block import CategoryBlock, DataBlock
    from fastai.data.transforms import ColReader, ColSplitter, Normalize
    from fastai.learner import Learner
    from fastai.metrics import accuracy, error_rate
    from fastai.vision.augment import Resize
    from fastai.vision.data import ImageBlock

    settings = learn.settings
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=list(learn.dls.vocab))),
        get_x=ColReader("path"),
        get_y=ColReader("label"),
        splitter=ColSplitter("is_valid"),
        item_tfms=Resize(settings.image_size, method=settings.resize),
        batch_tfms=[Normalize.from_stats(*normalisation(settings.architecture))],
    )
    files = sorted(str(file) for file in (checkpoint.absolute() / "selfcheck").glob("*.png"))
    sides = pd.DataFrame({"path": files * 2, "label": learn.dls.vocab[0]})
    sides["is_valid"] = sides.index >= len(files)
    loaders = block.dataloaders(sides, bs=learn.dls.bs, num_workers=0)
    plain = Learner(
        loaders.cpu(), learn.model.cpu(), loss_func=learn.loss_func, metrics=[error_rate, accuracy]
    )
    plain.export(checkpoint.absolute() / "export.pkl")
