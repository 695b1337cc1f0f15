"""What a notebook writes with visionflows, for the type checker: mypy reads it, nothing runs it.

make lint
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

import pandas as pd

import visionflows as vf
from visionflows.datasets.fetch import Dataset
from visionflows.inference import Engine
from visionflows.inference.decoding import Row
from visionflows.models.artifact import Model
from visionflows.storage.base import Storage


def train(store: Path, draft: Path) -> None:
    dataset = vf.fetch("PETS", store)
    assert_type(dataset, Dataset)
    table = vf.build_table(dataset.folder, "uppercase", valid_pct=0.2)
    assert_type(table, pd.DataFrame)
    settings = vf.TrainSettings(architecture="resnet18", lr="find", epochs=3)
    assert_type(vf.fine_tune(table, dataset.folder, draft, settings), dict[str, Any])


def score(store: Path) -> None:
    found = vf.find("pets@production", store)
    assert_type(found, Storage)
    model = vf.load(found)
    assert_type(model, Model)
    settings = vf.ScoreSettings(precision="float32", top=3)
    engine = vf.make_engine(model, settings)
    assert_type(engine, Engine)
    assert_type(vf.predict(["a.jpg", "s3://inbox/b.jpg"], engine), Iterator[Row])
    assert_type(vf.open_storage("s3://inbox/2020"), Storage)
    vf.score_folder("inbox", "pets", "scores", store, settings)


def refused(store: Path) -> None:
    """What the checker must not let pass: an error that is not there is one in itself."""
    vf.fetched  # type: ignore[attr-defined]  # noqa: B018 (no such name)
    vf.find("pets")  # type: ignore[call-arg]  # no store
    vf.TrainSettings(epochs="three")  # type: ignore[arg-type]
    vf.ScoreSettings(presicion="float32")  # type: ignore[call-arg]
    vf.load("pets")  # type: ignore[arg-type]  # a name, not the place of a bundle
