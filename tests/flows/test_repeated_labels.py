"""A retraining and an evaluation repeat the options of the production model's labels."""

import ast
import contextlib
import csv

import pytest
from several_labels import SMALL, write_pairs

import visionflows as vf
from flows.retrain import retrain
from visionflows.errors import VisionflowsError
from visionflows.models.artifact import read_info
from visionflows.models.registry import find_model, promote

OPTIONS = SMALL | {"epochs": 1, "recipe": "fastai", "resize": "squish"}


def part_by_bars(folder):
    """Write the lists of labels.csv as text with bars, and a line of a photo that is not there."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = [(path, "|".join(ast.literal_eval(text))) for path, text in [*csv.reader(file)][1:]]
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows, ("gone.png", "circle")])


@pytest.mark.slow
def test_the_options_of_labels_are_repeated(tmp_path):
    folder, store = write_pairs(tmp_path / "data", each=4, as_list=True), str(tmp_path / "store")
    part_by_bars(folder)
    labels = {"labels": "csv:labels.csv", "label_sep": "|", "missing": "skip"}
    first = vf.train(folder, "pairs", store=store, **labels, **OPTIONS)
    recorded = first.info.labels, first.info.label_sep, first.info.missing, first.info.multi_label
    assert recorded == ("csv:labels.csv", "|", "skip", True)
    promote(f"pairs@{first.version}", store, why="test")
    with contextlib.suppress(VisionflowsError):  # of the comparison, if there are too few images
        settings = vf.TrainSettings(**OPTIONS, seed=2)
        retrain.call_without_server(
            str(folder), "pairs", labels="csv:labels.csv", store=store, settings=settings
        )
    second = read_info(find_model("pairs", store))
    assert second.version != first.version
    again = second.labels, second.label_sep, second.missing, second.multi_label
    assert again == recorded

    part_by_bars(write_pairs(tmp_path / "new", each=1, first_seed=90, as_list=True))
    result = vf.evaluate("pairs", tmp_path / "new", "csv:labels.csv", store=store)
    assert result.counts["ok"] == 15
    assert result.counts["unlabelled"] == 1
