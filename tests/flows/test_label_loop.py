"""A round with several labels: score, correct, retrain, compare and promote."""

import csv
import shutil

import pytest
from several_labels import OPTIONS, SOURCE, write_pairs
from typer.testing import CliRunner

import visionflows as vf
from flows.retrain import retrain
from visionflows.cli.main import app
from visionflows.errors import ModelError
from visionflows.models.artifact import read_info
from visionflows.models.registry import find_model, production_info
from visionflows.reports.comparison import render_comparison
from visionflows.review.corrections import format_corrections
from visionflows.scoring.review_results import add_corrections, review_questions
from visionflows.training.comparison import compare_versions, pair_predictions

pytest_plugins = ["several_labels"]


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """Images, and their labels by path, that no model has seen."""
    folder = write_pairs(tmp_path_factory.mktemp("loop") / "in", each=4, first_seed=300)
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    return folder, {row["path"].split("/")[1]: row["label"] for row in rows}


def test_a_round_of_corrections_retrains_compares_and_promotes(truth, tmp_path):
    """Production learnt from one epoch; the candidate from more, and from corrections."""
    folder, labels = truth
    dataset, store = write_pairs(tmp_path / "data", each=8, as_list=True), str(tmp_path / "store")
    short = OPTIONS | {"epochs": 1, "recipe": "fastai"}
    first = retrain.call_without_server(
        str(dataset), "pairs", **SOURCE, store=store, settings=vf.TrainSettings(**short)
    )
    assert first["promoted"]
    vf.score(folder / "images", "pairs", tmp_path / "out", store=store)
    _, questions = review_questions(str(tmp_path / "out"))
    answers = [
        row._replace(label=labels[row.path], answer="other" if labels[row.path] else "empty")
        for row in questions
    ]
    (tmp_path / "corrections.csv").write_bytes(format_corrections(answers))
    (estimate,) = add_corrections(str(tmp_path / "out"), [str(tmp_path / "corrections.csv")])
    assert estimate.decisions == 3 * estimate.reviewed
    assert "decisions on a label right" in (tmp_path / "out/report.html").read_text()

    found = retrain.call_without_server(
        *(str(dataset), "pairs"),
        **SOURCE,
        store=store,
        corrections=(str(tmp_path / "out"),),
        settings=vf.TrainSettings(**OPTIONS),
    )
    assert found["promoted"], found["why"]
    assert found["metric"] == "mean_average_precision"
    assert found["candidate_metric"] > found["production_metric"]
    assert "paired randomization test" in found["why"]
    info = production_info("pairs", store)
    assert f"pairs@{info.version}" == found["model"]
    assert info.multi_label
    assert info.dataset.corrections.imported == len(answers)

    compared = compare_versions(found["model"], first["model"], store)
    assert compared.better == "a"
    assert compared.as_dict()["a_metric"] == found["candidate_metric"]
    assert {one.name for one in compared.classes} == {"circle", "square", "stripes"}
    page = render_comparison(compared)
    assert "Paired randomization test" in page
    arguments = ["models", "compare", found["model"], first["model"], "--store", store]
    shown = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "compare.html")])
    assert shown.exit_code == 0, shown.output
    assert "mean average precision" in " ".join(shown.output.split())


def test_a_model_of_several_labels_is_not_better_than_itself(pairs_model):
    version = read_info(find_model("pairs", pairs_model.store)).version
    name = f"pairs@{version}"
    found = pair_predictions(name, name, pairs_model.folder, pairs_model.store)
    assert found.images
    assert (found.better, found.p_value, found.p_value_of_b) == ("", 1, 1)


def test_models_of_one_and_of_several_labels_are_not_compared(pairs_model, trained, tmp_path):
    shutil.copytree(pairs_model.store, tmp_path / "store")
    shutil.copytree(trained.store / "models", tmp_path / "store/models", dirs_exist_ok=True)
    with pytest.raises(ModelError, match="one of them gives an image several labels"):
        pair_predictions("pairs", "shapes", pairs_model.folder, tmp_path / "store")
