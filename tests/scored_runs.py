"""Shared by the scoring tests: files of every kind, and the rows of a result."""

import contextlib
import csv
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from conftest import CLASSES, encoded, picture
from PIL import Image

from visionflows.scoring.job import Job
from visionflows.scoring.run import ScoringRun, lock_output
from visionflows.scoring.schema import JobSettings


def job_of(settings: JobSettings, input: str = "in", listing: str = "", files: int = 0) -> Job:
    """The job of a model with two classes."""
    return Job(
        schema_version=Job.VERSION,
        input=input,
        listing=listing,
        files=files,
        model="m",
        classes=("a", "b"),
        settings=settings,
    )


@contextlib.contextmanager
def locked(run: ScoringRun) -> Iterator[ScoringRun]:
    """The run, with its output locked for the block."""
    with lock_output(str(run.output), 0), contextlib.closing(run):
        yield run


def rows_of(output: Path) -> list[dict]:
    with (output / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def probabilities(rows: list[dict]) -> np.ndarray:
    return np.array([[float(row[f"p_{name}"]) for name in CLASSES] for row in rows])


def fastai_probabilities(export: Path, files: list[Path]) -> np.ndarray:
    """fastai's probabilities: load_learner, test_dl, get_preds."""
    from fastai.learner import load_learner

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learn = load_learner(export)
    with learn.no_bar(), learn.no_logging():
        answers, _ = learn.get_preds(dl=learn.dls.test_dl(files, bs=64, num_workers=0))
    return answers.numpy()


def bad_files(folder: Path) -> dict[str, str]:
    """One bad file of every kind, by the expected status of its row."""
    folder.mkdir(parents=True, exist_ok=True)
    photo = encoded(picture(5, (200, 150)))
    contents = {
        "empty.jpg": (b"", "unreadable"),
        "truncated.jpg": (photo[: len(photo) // 2], "unreadable"),
        "truncated.png": (encoded(picture(6), "PNG")[:-200], "unreadable"),
        "text.jpg": (b"this is no picture", "unreadable"),
        "big.png": (encoded(Image.new("L", (20_000, 20_000), 7), "PNG"), "too_large"),
    }
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    return {name: status for name, (_, status) in contents.items()} | {"gone.jpg": "missing"}


def good_files(folder: Path) -> list[str]:
    """Unusual but valid files."""
    folder.mkdir(parents=True, exist_ok=True)
    image = picture(8)
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    frames = [picture(seed) for seed in range(3)]
    animated = {"save_all": True, "append_images": frames[1:], "duration": 50}
    files = {
        "cmyk.jpg": encoded(image.convert("CMYK")),
        "deep.png": encoded(deep, "PNG"),
        "palette.png": encoded(image.quantize(16), "PNG", transparency=3),
        "moving.gif": encoded(frames[0], "GIF", **animated),
        "moving.webp": encoded(frames[0], "WEBP", **animated),
        "one.png": encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
        "a b, c.jpg": encoded(image),
        'say "x".jpg': encoded(image),
        "two\nlines.jpg": encoded(image),
        "=1+1.JPG": encoded(image),
        "saved.jpg_large": encoded(image),
        "no ending": encoded(image, "WEBP"),
        "caf\u00e9.jpg": encoded(image),
        os.fsdecode(b"caf\xe9.jpg"): encoded(image),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg/in.jpg").write_bytes(encoded(image))
    return [*files, "folder.jpg/in.jpg"]
