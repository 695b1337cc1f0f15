"""Evaluate a fine-tuned network on the validation images: metrics, plots, a self-check.

Adds to the checkpoint: `evaluation.json`, `validation.csv`, `pictures/*.png`, `top_losses/`, and
`selfcheck/`: a few small images with the probabilities that every load of the weights must repeat.
"""

import io
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from visionflows.datasets.split import near_duplicate_ids, same_side_keys
from visionflows.evaluation.calibration import calibrate, fit_calibration
from visionflows.evaluation.metrics import compute_metrics, confusion_csv
from visionflows.images.image_status import BadImage
from visionflows.images.open import open_image
from visionflows.images.resize import resize_image
from visionflows.label_sets import SEPARATOR
from visionflows.storage.base import Storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name
from visionflows.training import torch_random_lock
from visionflows.training.class_weights import class_weights
from visionflows.training.evidence.label_validation import measure_labels
from visionflows.training.evidence.top_losses import WrongLabel, write_top_losses
from visionflows.training.pretrained_weights import normalisation
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    from fastai.learner import Learner

log = logging.getLogger("visionflows.evaluate")

SELFCHECK_IMAGES = 8
METRICS_LOGGED = {
    False: ("error_rate", "accuracy"),
    True: ("mean_average_precision", "micro_f1", "accuracy"),
}


def evaluate_checkpoint(
    table: pd.DataFrame, folder: str | Path, checkpoint: str | Path, export_fastai: bool = False
) -> dict[str, Any]:
    """Return the metrics of a checkpoint's network on the validation images (evaluation.json).

    Keys: those of `compute_metrics`, valid_loss, calibration (see `fit_calibration`), and
    skipped_plots (reasons by name) if a plot could not be drawn.

    `export_fastai` also writes `export.pkl`, which fastai's load_learner opens without
    visionflows; it opens images as fastai does, without their EXIF orientation.
    """
    from visionflows.training.evidence.image_grids import draw_image_grids

    storage = LocalStorage(checkpoint)
    record = json.loads(storage.read("training.json"))
    with torch_random_lock:
        learn = load_trained_learner(table, folder, storage, record)
        with learn.no_bar(), learn.no_logging():
            predictions, targets, losses = learn.get_preds(ds_idx=1, with_loss=True)
            probabilities, targets = predictions.numpy(), targets.numpy()
            measure = measure_labels if learn.multi_label else _measure
            metrics, wrong = measure(learn, probabilities, targets, storage)
            metrics["valid_loss"] = float(losses.mean())
            plots, skipped = draw_image_grids(learn, losses)
            for name, png in plots.items():
                storage.write(f"pictures/{name}.png", png)
            write_top_losses(learn, folder, wrong, storage)
            write_selfcheck(learn, table, folder, storage)
        if skipped:
            metrics["skipped_plots"] = skipped
        storage.write("evaluation.json", json.dumps(metrics, indent=2).encode())
        if export_fastai:
            _export_fastai(learn, storage.root)
    names = METRICS_LOGGED[learn.multi_label]
    found = ", ".join(f"{name.replace('_', ' ')} {metrics[name]:.4f}" for name in names)
    log.info("validation: %s on %d images", found, len(targets))
    return metrics


def _measure(
    learn: "Learner", probabilities: np.ndarray, targets: np.ndarray, storage: LocalStorage
) -> tuple[dict[str, Any], list[WrongLabel]]:
    """Return the metrics, with the calibration, and the wrong labels, most confident first.

    Writes confusion.csv, and validation.csv, in which near-duplicates are one image.
    """
    valid, classes, predicted = learn.dls.valid.items, [*learn.dls.vocab], probabilities.argmax(1)
    groups = near_duplicate_ids(valid)
    metrics = compute_metrics(predicted, targets, classes, groups.to_numpy())
    storage.write("confusion.csv", confusion_csv(metrics["confusion"], classes))
    first = ~groups.duplicated().to_numpy()
    weights = class_weights(learn.dls.train.items.label, classes, learn.settings.balance)
    keys = same_side_keys(valid[first])
    calibration = fit_calibration(probabilities[first], targets[first], keys, weights)
    calibrated = calibrate(probabilities, calibration["temperature"], calibration["bias"])
    arrays = (each[first] for each in (targets, probabilities, calibrated))
    storage.write("validation.csv", validation_csv([*valid.path[first]], classes, *arrays))
    confidence = calibrated[np.arange(len(predicted)), predicted]
    order = np.argsort(-confidence, kind="stable")
    wrong = [
        WrongLabel(at, classes[targets[at]], classes[predicted[at]], predicted[at], confidence[at])
        for at in order[predicted[order] != targets[order]].tolist()
    ]
    return {**metrics, "calibration": calibration}, wrong


def validation_csv(
    paths: list[str],
    classes: list[str],
    targets: np.ndarray,
    probabilities: np.ndarray,
    calibrated: np.ndarray,
) -> bytes:
    """Return validation.csv: the label and the prediction of each validation image."""
    names, best = np.array(classes, object), (np.arange(len(paths)), probabilities.argmax(1))
    table = pd.DataFrame({"path": paths, "label": names[targets], "predicted": names[best[1]]})
    table = table.assign(confidence=calibrated[best], raw=probabilities[best])
    return _csv_bytes(table, "%.6f")


def _csv_bytes(table: pd.DataFrame, float_format: str) -> bytes:
    """Return a table as CSV (RFC 4180)."""
    text = table.to_csv(index=False, float_format=float_format, na_rep="nan", lineterminator="\r\n")
    return text.encode()


def load_trained_learner(
    table: pd.DataFrame, folder: str | Path, storage: Storage, record: dict[str, Any]
) -> "Learner":
    """Return the learner of a checkpoint with its weights, in float32."""
    import torch
    from safetensors.torch import load

    from visionflows.training.learner import make_learner

    settings = TrainSettings(**record["settings"]).model_copy(update={"pretrained": "none"})
    learn = make_learner(table, folder, settings)
    if learn.multi_label and (thresholds := record.get("thresholds")):
        learn.loss_func.thresh = torch.tensor(thresholds)  # with which fastai shows labels
    learn.model.load_state_dict(load(storage.read("weights.safetensors")))
    learn.model.to(memory_format=torch.channels_last)  # oneDNN's convolutions are faster
    return learn


def write_selfcheck(
    learn: "Learner", table: pd.DataFrame, folder: str | Path, storage: LocalStorage
) -> None:
    """Write a few validation images in the network's size as PNG, and fastai's probabilities.

    Computed on the CPU in float32, which every machine repeats up to rounding.
    """
    settings = learn.settings
    names: list[str] = []
    valid = table[(table.status == "ok") & table.is_valid.astype(bool)]
    for path in take_turns(valid, "path").path:
        file = Path(folder) / decode_name(path)
        try:
            image = open_image(file, settings.max_pixels, decode_options=settings.decode_options)
        except BadImage as bad:  # since the table was made; use the next one
            log.warning("%s: %s; the self-check uses another image", path, bad.reason)
            continue
        buffer = io.BytesIO()
        resize_image(image, settings.image_size, settings.resize).save(buffer, "PNG")
        names.append(f"{len(names)}.png")
        storage.write(f"selfcheck/{names[-1]}", buffer.getvalue())
        if len(names) == SELFCHECK_IMAGES:
            break
    learn.dls.cpu()
    learn.model.cpu()
    paths = [str(storage.path(f"selfcheck/{name}").absolute()) for name in names]
    loader = learn.dls.test_dl(pd.DataFrame({"path": paths}), num_workers=0)
    probabilities, _ = learn.get_preds(dl=loader)
    rows = [[name, *row] for name, row in zip(names, probabilities.tolist(), strict=True)]
    expected = pd.DataFrame(rows, columns=["image", *learn.dls.vocab])
    storage.write("selfcheck/expected.csv", _csv_bytes(expected, "%.9g"))


def take_turns(images: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the images in the order of a column, taking every class in turn."""
    turn = images.sort_values(column).groupby("label").cumcount()
    return images.assign(turn=turn).sort_values(["turn", column])


def _export_fastai(learn: "Learner", checkpoint: Path) -> None:
    """Write export.pkl: a learner of fastai's own parts, which opens without visionflows.

    fastai builds it from images that it opens but does not keep. The self-check images serve,
    because Pillow alone may not open some of the training images.
    """
    from fastai.data.block import CategoryBlock, DataBlock, MultiCategoryBlock
    from fastai.data.transforms import ColReader, ColSplitter, Normalize
    from fastai.learner import Learner
    from fastai.metrics import accuracy, accuracy_multi, error_rate
    from fastai.vision.augment import Resize
    from fastai.vision.data import ImageBlock

    settings, several = learn.settings, learn.multi_label
    make_block = MultiCategoryBlock if several else CategoryBlock
    block = DataBlock(
        blocks=(ImageBlock, make_block(vocab=list(learn.dls.vocab))),
        get_x=ColReader("path"),
        get_y=ColReader("label", label_delim=SEPARATOR if several else None),
        splitter=ColSplitter("is_valid"),
        item_tfms=Resize(settings.image_size, method=settings.resize),
        batch_tfms=[Normalize.from_stats(*normalisation(settings.architecture))],
    )
    files = sorted(str(file) for file in (checkpoint.absolute() / "selfcheck").glob("*.png"))
    rows = pd.DataFrame({"path": files * 2, "label": learn.dls.vocab[0]})
    rows["is_valid"] = rows.index >= len(files)
    loaders = block.dataloaders(rows, bs=learn.dls.bs, num_workers=0)
    metrics = [accuracy_multi] if several else [error_rate, accuracy]
    plain = Learner(loaders.cpu(), learn.model.cpu(), loss_func=learn.loss_func, metrics=metrics)
    plain.export(checkpoint.absolute() / "export.pkl")
