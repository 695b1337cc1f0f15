"""Corrections of several labels a photo: in the file table, and a round of the loop."""

from pathlib import Path

import pandas as pd
import pytest
from several_labels import OPTIONS, SOURCE, write_pairs

import visionflows as vf
from flows.retrain import retrain
from visionflows.datasets.file_table import build_table
from visionflows.datasets.label_rules import parse_label_rule
from visionflows.errors import TableError
from visionflows.hashing import sha256_of
from visionflows.label_sets import split_labels
from visionflows.review.corrections import Correction, format_corrections
from visionflows.training.apply_corrections import apply_corrections
from visionflows.training.settings import TrainSettings


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "data", each=4, as_list=True)


@pytest.fixture
def table(pairs) -> pd.DataFrame:
    return build_table(pairs, parse_label_rule(SOURCE["labels"]))


def corrected(file: Path, label: str, answer: str = "other") -> Correction:
    return Correction(file.name, sha256_of(file.read_bytes()), label, answer, root=str(file.parent))


def apply(table: pd.DataFrame, pairs: Path, tmp_path: Path, *rows: Correction) -> pd.DataFrame:
    path = tmp_path / "corrections.csv"
    path.write_bytes(format_corrections(rows))
    settings = TrainSettings(architecture="test_resnet", pretrained="none", image_size=32)
    found = apply_corrections(table, pairs, [str(path)], tmp_path / "store", settings)
    return found.files.set_index("path")


def test_labels_of_people_replace_those_of_the_source(table, pairs, tmp_path):
    images = pairs / "images"
    new = write_pairs(tmp_path / "new", each=1, first_seed=700) / "images/square--700.png"
    found = apply(
        *(table, pairs, tmp_path),
        corrected(images / "circle-square-1.png", "stripes; circle"),
        corrected(images / "square-square-1.png", "", "empty"),
        corrected(images / "stripes-circle-1.png", "", "none"),
        corrected(new, "square"),
    )
    assert found.label["images/circle-square-1.png"] == "circle;stripes"
    assert found.loc["images/square-square-1.png", ["label", "status"]].tolist() == ["", "ok"]
    assert found.status["images/stripes-circle-1.png"] == "unlabelled"
    (imported,) = found.index[~found.index.isin(table.path)]
    assert found.loc[imported, ["label", "status"]].tolist() == ["square", "ok"]
    assert found.attrs["multi_label"]
    assert found.attrs["corrections"]["changed"] == 2
    assert not found.is_valid[["images/circle-square-1.png", "images/square-square-1.png"]].any()


def test_a_new_label_needs_as_many_images_as_a_new_class(table, pairs, tmp_path):
    row = corrected(pairs / "images/circle-square-1.png", "circle;triangle")
    with pytest.raises(TableError, match="triangle is not a class of the dataset, and only 1"):
        apply(table, pairs, tmp_path, row)


def test_an_image_without_a_label_is_refused_where_each_has_one(table, pairs, tmp_path):
    single = table[table.label.isin(["circle", "square"])].reset_index(drop=True)
    single.attrs["multi_label"] = False
    row = corrected(pairs / "images/circle--1.png", "", "empty")
    with pytest.raises(TableError, match=r"circle--1\.png has no label by its answer empty"):
        apply(single, pairs, tmp_path, row)


def test_a_class_that_loses_its_training_images_is_refused(table, pairs, tmp_path):
    rows = [
        corrected(pairs / row.path, row.label.replace("stripes", "circle"))
        for row in table.itertuples()
        if "stripes" in row.label and not row.is_valid
    ]
    with pytest.raises(TableError, match="no image of stripes to train on"):
        apply(table, pairs, tmp_path, *rows)


@pytest.mark.slow
def test_a_round_of_corrections_leads_to_a_promoted_model(tmp_path):
    """A few photos with wrong labels make a weak production; corrections make it better."""
    data, store = write_pairs(tmp_path / "data", each=6), tmp_path / "store"
    labels = pd.read_csv(data / "labels.csv", keep_default_na=False)
    names = labels.label.str.replace("stripes", "circle").map(split_labels)
    names[:16] = labels.label[:16].map(split_labels)  # of each class some are right
    labels.assign(label=names.map(lambda one: str([*dict.fromkeys(one)]))).to_csv(
        data / "labels.csv", index=False
    )
    options = {"store": store, "keep": "best", **SOURCE, **OPTIONS}
    first = vf.train(data, "pairs", **options)
    corrections = tmp_path / "corrections.csv"
    corrections.write_bytes(
        format_corrections(
            corrected(data / row.path, row.label, "other" if row.label else "empty")
            for row in labels.itertuples()
        )
    )
    assert first.info.multi_label
    found = retrain.call_without_server(
        *(str(data), "pairs", SOURCE["labels"]),
        store=str(store),
        corrections=(str(corrections),),
        corrections_in_validation=True,
        settings=TrainSettings(keep="best", **OPTIONS),
    )
    assert found["promoted"], found["why"]
