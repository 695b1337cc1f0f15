"""Compare the seconds of an epoch: visionflows, fastai, and photos downscaled beforehand.

    python ../shared/cases/big.py PHOTOS big 400     # or any folder of large labelled photos
    python bench/train.py big --labels uppercase --arch tf_efficientnet_lite0 --pretrained FILE

Sides, each in its own process, in turn:

    ours     build_table and fine_tune: each photo is decoded once, bfloat16 if it is native
    float32  the same with --precision float32
    stock    fastai's DataLoaders and fine_tune on the same files
    small    the same on photos that were saved at 500 pixels beforehand
    gpus2    ours with --gpus 2; without a GPU, two processes on the CPU with gloo

All have the same network, split, seed and batch size. Each side has its default number of loader
processes (fastai: one a core), unless --workers sets it. The result has the seconds of the file
table (or of saving the small photos), the seconds of every epoch, and the error rate.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIDES = ("stock", "ours", "float32", "small", "gpus2")
CURVE = ("train_loss", "valid_loss", "error_rate")


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(globals()[f"_{options.one}"](options)))
        return
    results: dict[str, list] = {side: [] for side in options.sides}
    for seed in options.seeds:
        for side in options.sides:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", side, "--seed", str(seed)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results[side].append(json.loads(done.stdout.splitlines()[-1]))
            print(seed, side, json.dumps(results[side][-1]), flush=True)
    _write(options, results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", help="a folder of large photos")
    parser.add_argument("--labels", default="uppercase")
    parser.add_argument("--arch", default="resnet34")
    parser.add_argument("--pretrained", default="none", help="path of a state dict")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--workers", type=int, help="loader processes; by default those of each side"
    )
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--results", default="bench/results")
    parser.add_argument("--note", default="large", help="suffix of the result's file name")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _settings(options, precision="auto", gpus=1):
    from visionflows.training.settings import TrainSettings

    return TrainSettings(
        architecture=options.arch,
        pretrained=options.pretrained,
        epochs=options.epochs,
        batch_size=options.batch_size,
        workers=options.workers,
        seed=options.seed,
        precision=precision,
        gpus=gpus,
        keep="last",
    )


def _table(options, decode_options):
    from visionflows.datasets.file_table import build_table

    return build_table(Path(options.photos), options.labels, decode_options=decode_options)


def _float32(options) -> dict:
    return _ours(options, "float32")


def _gpus2(options) -> dict:
    return _ours(options, gpus=2)


def _ours(options, precision="auto", gpus=1) -> dict:
    from visionflows.training.fine_tune import fine_tune

    settings = _settings(options, precision, gpus)
    with tempfile.TemporaryDirectory() as cache:
        _cache(cache)
        began = time.perf_counter()
        table = _table(options, settings.decode_options)
        before = time.perf_counter() - began
        record = fine_tune(table, options.photos, Path(cache) / "checkpoint", settings)
    return _result(before, [row["seconds"] for row in record["history"]], record["history"])


def _stock(options, photos: str = "") -> dict:
    from visionflows.images.decode_options import WHOLE

    with tempfile.TemporaryDirectory() as cache:
        _cache(cache)
        table = _table(options, WHOLE)  # the split; stock fastai has no table
    return _result(0.0, *_fastai(options, table, photos or options.photos))


def _small(options) -> dict:
    from PIL import Image, ImageOps

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        for path in Path(options.photos).rglob("*.jpg"):
            image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
            image.thumbnail((500, 500))
            target = Path(folder) / path.relative_to(options.photos)
            target.parent.mkdir(parents=True, exist_ok=True)
            image.save(target, quality=90)
        before = time.perf_counter() - began
        return _stock(options, folder) | {"before": round(before, 1)}


def _fastai(options, table, photos: str) -> tuple[list[float], list[dict]]:
    """Seconds and history of fastai's fine_tune, with images opened by fastai."""
    from fastai.callback.core import Callback
    from fastai.data.block import CategoryBlock, DataBlock
    from fastai.data.transforms import ColReader, ColSplitter, Normalize
    from fastai.vision.augment import Resize, aug_transforms
    from fastai.vision.data import ImageBlock

    from visionflows.training.learner import make_learner
    from visionflows.training.pretrained_weights import normalisation

    seconds: list[float] = []

    class Clock(Callback):
        def before_epoch(self):
            self.began = time.perf_counter()

        def after_epoch(self):
            seconds.append(round(time.perf_counter() - self.began, 2))

    settings = _settings(options)
    learn = make_learner(table, options.photos, settings)
    workers = {} if settings.workers is None else {"num_workers": settings.workers}
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_x=ColReader("path", pref=f"{photos}/"),
        get_y=ColReader("label"),
        splitter=ColSplitter("is_valid"),
        item_tfms=Resize(settings.image_size),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(*normalisation(options.arch))],
    )
    learn.dls = block.dataloaders(table, bs=settings.batch_size, **workers)
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(settings.epochs, 2e-3, freeze_epochs=settings.frozen_epochs, cbs=Clock())
    return seconds, [{"error_rate": float(row[2])} for row in learn.recorder.values]


def _cache(folder: str) -> None:
    """Use an empty cache for downscaled images."""
    import os

    os.environ["VISIONFLOWS_CACHE"] = folder


def _result(before: float, seconds: list[float], history: list[dict]) -> dict:
    return {
        "before": round(before, 1),
        "epochs": seconds,
        "error_rate": round(history[-1]["error_rate"], 4),
        "history": [
            {name: round(row[name], 4) for name in CURVE if name in row} for row in history
        ],
    }


def _write(options, results: dict[str, list]) -> None:
    from record import hardware, versions, write_result

    # Without the first epoch, which opens files and allocates memory, unless it is the only one.
    after = {
        side: [run["epochs"][1:] or run["epochs"] for run in runs] for side, runs in results.items()
    }
    later = {side: sum(map(sum, runs)) / sum(map(len, runs)) for side, runs in after.items()}
    result = {
        "hardware": hardware(),
        "versions": versions(),
        "network": options.arch,
        "photos": sum(1 for _ in Path(options.photos).rglob("*.jpg")),
        "batch_size": options.batch_size,
        "workers": options.workers,
        "runs": results,
        "seconds_of_later_epochs": {side: round(mean, 2) for side, mean in later.items()},
    }
    for side, other in (
        ("ours", "stock"),
        ("ours", "small"),
        ("float32", "small"),
        ("gpus2", "ours"),
    ):
        if {side, other} <= later.keys():
            result[f"rate: {side}/{other}"] = round(later[other] / later[side], 3)
    write_result(result, options.results, f"train-{options.note}")


if __name__ == "__main__":
    main()
