"""Plots and top losses: any class name or network is drawn, or skipped with a reason."""

import html
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pillow_heif
import pytest
from conftest import encoded, picture
from fastai.learner import load_learner
from PIL import Image

from visionflows.datasets.fetch import Dataset
from visionflows.datasets.file_table import build_table
from visionflows.escaping import printable
from visionflows.models.metrics_schema import Metrics
from visionflows.reports.training import render_training_report
from visionflows.storage.local import LocalStorage
from visionflows.training.evidence.evaluate import evaluate_checkpoint, write_selfcheck
from visionflows.training.evidence.top_losses import WrongLabel, read_top_losses, write_top_losses
from visionflows.training.fine_tune import write_checkpoint
from visionflows.training.learner import make_learner
from visionflows.training.publish import build_model_info
from visionflows.training.settings import TrainSettings

SETTINGS = TrainSettings(
    architecture="test_resnet", pretrained="none", image_size=32, workers=0, batch_size=8
)
PICTURES = ["batch", "results", "top_losses"]
EPOCH = {"train_loss": 1.0, "valid_loss": 1.0, "error_rate": 0.5, "accuracy": 0.5, "seconds": 1.0}
NAMES = [
    *("US$_$", r"$\frac{", "$$", r"\$_^", "<b>", "a & b", "cat😺", "n" * 200, "שלום عالم", "_one"),
    *("#na#", "nan", "%s{0}", "a\tb", "a\nb", r"caf\xe9"),
]


def table_of(folder, names: list[str], valid: int) -> pd.DataFrame:
    """A training image of every class, and a validation image of the first classes.

    The labels come from a CSV, because not every name is valid for a folder.
    """
    folder.mkdir()
    rows = [(name, False) for name in names] + [(name, True) for name in names[:valid]]
    for number in range(len(rows)):
        (folder / f"{number}.png").write_bytes(encoded(picture(number, (9, 8)), "PNG"))
    labels = folder.parent / f"{folder.name}.csv"
    table = pd.DataFrame(rows, columns=["label", "is_valid"])
    table.assign(path=[f"{at}.png" for at in table.index]).to_csv(labels, index=False)
    return build_table(folder, f"csv:{labels}")


def checkpointed(
    table: pd.DataFrame, folder, checkpoint, epochs: int = 3, know_nothing: bool = False
) -> dict:
    """A checkpoint of an untrained network, optionally with equal probabilities."""
    learn = make_learner(table, folder, SETTINGS)
    if know_nothing:
        learn.model[1][-1].weight.data.zero_()
    record = {
        "settings": SETTINGS.model_dump(),
        "classes": list(learn.dls.vocab),
        "normalise": {"mean": [0.5] * 3, "std": [0.5] * 3},
        "base_lr": 1e-3,
        "freeze_epochs": 0,
        "batch_size": 8,
        "device": "cpu: 2 cores",
        "mixed_precision": "none",
        "history": [{"epoch": at, "phase": "unfrozen", **EPOCH} for at in range(epochs)],
        "summary": "",
        "seconds": 1.0,
    }
    write_checkpoint(LocalStorage(checkpoint), learn, record)
    return record


def pictures_in(checkpoint) -> list[str]:
    found = sorted((checkpoint / "pictures").glob("*.png"))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in found)
    return [path.stem for path in found]


def test_class_names_of_any_kind_are_shown_literally(tmp_path, recwarn):
    table, names = table_of(tmp_path / "in", NAMES, valid=len(NAMES)), {*map(printable, NAMES)}
    record = checkpointed(table, tmp_path / "in", tmp_path / "checkpoint")
    metrics = evaluate_checkpoint(
        table, tmp_path / "in", tmp_path / "checkpoint", export_fastai=True
    )
    assert pictures_in(tmp_path / "checkpoint") == PICTURES
    assert "skipped_plots" not in metrics
    top_losses = read_top_losses(LocalStorage(tmp_path / "checkpoint"))
    assert 0 < len(top_losses) == min(round(metrics["error_rate"] * len(NAMES)), 12)
    assert all(
        top_loss.predicted != top_loss.label and {top_loss.predicted, top_loss.label} <= names
        for top_loss in top_losses
    )
    sure = [top_loss.probability for top_loss in top_losses]
    assert sure == sorted(sure, reverse=True)
    assert all(
        Image.open(io.BytesIO(top_loss.picture)).size == (160, 160) for top_loss in top_losses
    )
    assert not any(top_loss.heat_map for top_loss in top_losses)  # 32 pixels: a 1 × 1 feature map
    assert [row["class"] for row in metrics["by_class"]] == sorted(names)  # and never shortened
    heading = (tmp_path / "checkpoint/selfcheck/expected.csv").read_text().partition("\n0.png")[0]
    assert "n" * 200 in heading
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    data = Dataset("shapes", tmp_path / "in", "in", None)
    info = build_model_info("shapes", "folder", 0.5, data, table, record, metrics)
    drawn = {"top_losses": (tmp_path / "checkpoint/pictures/top_losses.png").read_bytes()}
    page = render_training_report(info, drawn, "", top_losses)
    assert page.count("data:image") == len(top_losses)
    assert f"actual class {html.escape(top_losses[0].label)}" in page
    assert "US$_$" in page
    assert '<th scope="row">&lt;b&gt;</th>' in page


def test_top_losses_are_shown_with_heat_maps(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "SETTINGS", SETTINGS.model_copy(update={"image_size": 96}))
    table = table_of(tmp_path / "in", ["a", "b", "c", "d"], valid=4)
    checkpointed(table, tmp_path / "in", tmp_path / "checkpoint")
    metrics = evaluate_checkpoint(table, tmp_path / "in", tmp_path / "checkpoint")
    top_losses = read_top_losses(LocalStorage(tmp_path / "checkpoint"))
    assert len(top_losses) == round(metrics["error_rate"] * 4)
    for top_loss in top_losses:
        plain, heat = (np.asarray(Image.open(io.BytesIO(image)), float) for image in top_loss[4:6])
        assert plain.shape == heat.shape == (160, 160, 3)
        assert np.abs(plain - heat).max() > 30


@pytest.mark.parametrize("know_nothing", [False, True])
def test_one_image_and_an_untrained_network_are_drawn(tmp_path, know_nothing):
    table = table_of(tmp_path / "in", ["a", "b"], valid=1)
    checkpointed(table, tmp_path / "in", tmp_path / "checkpoint", 1, know_nothing)
    metrics = evaluate_checkpoint(table, tmp_path / "in", tmp_path / "checkpoint")
    assert pictures_in(tmp_path / "checkpoint") == PICTURES
    assert metrics["accuracy"] in (0.0, 1.0)


def test_many_classes_are_drawn(tmp_path):
    table = table_of(tmp_path / "in", [f"class {number}" for number in range(150)], valid=12)
    checkpointed(table, tmp_path / "in", tmp_path / "checkpoint")
    evaluate_checkpoint(table, tmp_path / "in", tmp_path / "checkpoint")
    assert pictures_in(tmp_path / "checkpoint") == PICTURES


def test_a_plot_that_fails_is_skipped_and_reported(tmp_path, caplog):
    table = table_of(tmp_path / "in", ["a", "b"], valid=1)
    record = checkpointed(table, tmp_path / "in", tmp_path / "checkpoint")
    shutil.copytree(tmp_path / "checkpoint", tmp_path / "torn")
    complete = evaluate_checkpoint(table, tmp_path / "in", tmp_path / "checkpoint")
    (tmp_path / "in/1.png").unlink()  # one of two training images
    metrics = evaluate_checkpoint(table, tmp_path / "in", tmp_path / "torn")
    assert pictures_in(tmp_path / "torn") == ["results", "top_losses"]
    ((name, reason),) = metrics["skipped_plots"].items()
    note = f"plot {name} skipped: {reason}"
    assert (name, "1.png" in reason) == ("batch", True)
    assert note in caplog.text
    info = build_model_info(
        *(
            "shapes",
            "folder",
            0.5,
            Dataset("shapes", tmp_path / "in", "in", None),
            table,
            record,
            metrics,
        )
    )
    assert info.notes[-1] == note
    assert "skipped_plots" not in info.metrics.model_dump()
    assert html.escape(note, quote=False) in html.unescape(render_training_report(info, {}, ""))
    assert (
        Metrics.model_validate(
            {name: value for name, value in complete.items() if name != "calibration"}, strict=False
        )
        == info.metrics
    )  # only the plot is missing


def test_missing_images_are_left_out_of_top_losses_and_selfcheck(tmp_path, caplog):
    folder, checkpoint = tmp_path / "in", LocalStorage(tmp_path / "checkpoint")
    table = table_of(folder, ["a", "b", "c"], valid=3)
    learn = make_learner(table, folder, SETTINGS)
    paths = list(learn.dls.valid.items.path)
    (folder / paths[1]).unlink()
    predicted, targets = np.array([1, 2, 0]), np.array([0, 1, 2])
    labels = [learn.dls.vocab[at] for at in targets], [learn.dls.vocab[at] for at in predicted]
    wrong = [
        WrongLabel(at, *both, predicted[at], 1.0)
        for at, both in enumerate(zip(*labels, strict=True))
    ]
    write_top_losses(learn, folder, wrong, checkpoint)
    assert [(top_loss.path, top_loss.predicted) for top_loss in read_top_losses(checkpoint)] == [
        *((paths[0], "b"), (paths[2], "a"))
    ]
    write_selfcheck(learn, table, folder, checkpoint)
    assert checkpoint.names("selfcheck") == ["0.png", "1.png", "expected.csv"]
    assert caplog.text.count(f"{paths[1]}: the file was gone when it was read") == 2


@pytest.mark.parametrize("first", ["heic", "escaped"])
def test_the_fastai_export_needs_no_image_that_pillow_cannot_open(tmp_path, first):
    folder, checkpoint = tmp_path / "in", tmp_path / "checkpoint"
    for number in range(6):
        file = folder / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(picture(number), "PNG"))
    if first == "heic":
        pillow_heif.from_pillow(picture(7)).save(folder / "a/-.heic", format="HEIF")
    else:
        Path(os.fsdecode(os.fsencode(folder / "a") + b"/-\xff.png")).write_bytes(
            encoded(picture(7), "PNG")
        )
    table = build_table(folder, "folder", valid_pct=0.5)
    table["is_valid"] = [number % 2 == 1 for number in range(len(table))]
    assert set(table.status) == {"ok"}
    assert table.path[0].startswith("a/-")
    checkpointed(table, folder, checkpoint)
    metrics = evaluate_checkpoint(table, folder, checkpoint, export_fastai=True)
    assert json.loads((checkpoint / "evaluation.json").read_text()) == metrics
    learn = load_learner(checkpoint / "export.pkl")
    assert list(learn.dls.vocab) == ["a", "b"]
    label, _, probabilities = learn.predict(folder / "b/1.png")
    assert (label in ("a", "b"), len(probabilities)) == (True, 2)
