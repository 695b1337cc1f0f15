"""Images with several labels, and a model that gives them, shared by tests."""

import csv
import dataclasses
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, LEARNING, SMALL, shape, shared_by_workers
from PIL import Image

import visionflows as vf
from visionflows.api import TrainedModel
from visionflows.label_sets import join_labels
from visionflows.models.registry import promote


def write_pairs(folder: Path, each: int, first_seed: int = 0, as_list: bool = False) -> Path:
    """`each` images of every pair of shapes, side by side, and labels.csv; one is no shape.

    A cell joins the labels by `;`, or has them `as_list`: then an empty list is no missing label.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(first_seed, first_seed + each):
        for left, right in product(("", *CLASSES), repeat=2):
            path = f"images/{left}-{right}-{seed}.png"
            rng = np.random.default_rng(seed)
            empty = Image.new("RGB", (40, 40), tuple(rng.integers(60, 200, 3).tolist()))
            parts = [shape(one, seed) if one else empty for one in (left, right)]
            Image.fromarray(np.hstack([*map(np.asarray, parts)])).save(folder / path)
            labels = [*filter(None, (left, right))]
            rows.append((path, str(labels) if as_list else join_labels(labels)))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return folder


# Enough to learn the shapes, on squashed images, as a crop would show one of the two.
OPTIONS = SMALL | LEARNING | {"epochs": 15, "resize": "squish", "augment": "none", "seed": 1}
SOURCE = {"labels": "csv:labels.csv"}


@dataclasses.dataclass(frozen=True)
class PairsModel(TrainedModel):
    """A model that gives several labels, is in production as `pairs`, and must not be changed."""

    @property
    def folder(self) -> Path:
        """Its images and labels.csv."""
        return Path(self.store).with_name("data")


def train_pairs(root: Path) -> PairsModel:
    """Train and promote the model in the store `root`/store."""
    data, options = write_pairs(root / "data", each=8, as_list=True), SOURCE | OPTIONS
    store = str(root / "store")
    found = vf.train(data, "pairs", store=store, export_fastai=True, keep="best", **options)
    promote(f"pairs@{found.version}", store, why="test")
    return PairsModel(found.location, store, found.info, found.settings)


@pytest.fixture(scope="session")
def pairs_model(tmp_path_factory) -> PairsModel:
    """The model of `train_pairs`, trained once."""
    return shared_by_workers(tmp_path_factory, "pairs", train_pairs)
