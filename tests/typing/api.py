"""What a notebook writes with visionflows: mypy checks the types, nothing runs."""

from pathlib import Path
from typing import Any, assert_type

import pandas as pd

import visionflows as vf
from visionflows.api import ScoreResult, TrainedModel
from visionflows.datasets.fetch import Dataset
from visionflows.inference import Engine
from visionflows.models.artifact import Model
from visionflows.models.metrics_schema import Metrics
from visionflows.scoring.predict import Prediction
from visionflows.scoring.schema import RunCounts
from visionflows.storage.base import Storage


def train(store: Path) -> None:
    model = vf.train("PETS", "pets", labels="uppercase", store=store, epochs=3)
    assert_type(model, TrainedModel)
    assert_type(model.metrics, Metrics)
    assert_type(model.version, str)
    settings = vf.TrainSettings(architecture="resnet18", lr="find", epochs=3)
    vf.train(Path("photos"), "pets", settings=settings, corrections=["a.csv", Path("scores")])


def steps(store: Path, checkpoint: Path) -> None:
    dataset = vf.fetch("PETS", store)
    assert_type(dataset, Dataset)
    table = vf.build_table(dataset.folder, "uppercase", valid_pct=0.2)
    assert_type(table, pd.DataFrame)
    settings = vf.TrainSettings(architecture="resnet18", lr="find", epochs=3)
    assert_type(vf.fine_tune(table, dataset.folder, checkpoint, settings), dict[str, Any])
    vf.fine_tune(table, "photos", "checkpoint", settings)


def score(store: Path) -> None:
    result = vf.score("inbox", "pets", "scores", store=store, top=3)
    assert_type(result, ScoreResult)
    assert_type(result.rows, pd.DataFrame)
    assert_type(result.counts, RunCounts)
    vf.score(Path("inbox"), "pets", settings=vf.ScoreSettings(precision="float32"))


def predict(store: Path) -> None:
    (prediction,) = vf.predict("a.jpg", "pets", store=store)
    assert_type(prediction, Prediction)
    assert_type(prediction.label, str)
    assert_type(prediction.confidence, float | None)
    found = vf.find_model("pets@production", store)
    assert_type(found, Storage)
    model = vf.load_model(found)
    assert_type(model, Model)
    engine = vf.make_engine(model, vf.ScoreSettings(precision="float32", top=3))
    assert_type(engine, Engine)
    assert_type(vf.predict(["a.jpg", Path("b.jpg")], engine), list[Prediction])
    assert_type(vf.open_storage("s3://inbox/2020"), Storage)


def refused(store: Path) -> None:
    """Mistakes that the type checker must report: an unused ignore is an error too."""
    vf.fetched  # type: ignore[attr-defined]  # noqa: B018 (no such name)
    vf.find_model("pets")  # type: ignore[call-arg]  # no store
    vf.train("PETS")  # type: ignore[call-arg]  # no name
    vf.score("inbox")  # type: ignore[call-arg]  # no model
    vf.predict(["a.jpg"], vf.ScoreSettings())  # type: ignore[arg-type]  # no model
    vf.TrainSettings(epochs="three")  # type: ignore[arg-type]
    vf.ScoreSettings(presicion="float32")  # type: ignore[call-arg]
    vf.load_model("pets")  # type: ignore[arg-type]  # a name, not the location of an artifact
