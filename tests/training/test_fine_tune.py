"""Fine-tuning and evaluation: the record, reproducibility, errors."""

import math

import numpy as np
import pytest
from conftest import CLASSES, LEARNING, SMALL, write_shapes
from fastai.callback.core import Callback

from visionflows.datasets.file_table import build_table
from visionflows.errors import TrainError
from visionflows.evaluation.metrics import compute_metrics
from visionflows.models.schema import Training
from visionflows.reports.rendering import describe
from visionflows.training.evidence.evaluate import evaluate_checkpoint
from visionflows.training.fine_tune import fine_tune
from visionflows.training.learner import make_learner
from visionflows.training.settings import TrainSettings
from visionflows.training.trainer import find_learning_rate


def test_the_record_has_classes_history_and_device(trained):
    record = trained.record
    assert record["classes"] == list(CLASSES)
    assert [row["epoch"] for row in record["history"]] == list(range(LEARNING["epochs"]))
    for row in record["history"]:
        assert {"train_loss", "valid_loss", "error_rate", "accuracy", "seconds"} <= set(row)
        assert row["accuracy"] == pytest.approx(1 - row["error_rate"])
    assert record["device"].startswith(("cpu", "cuda"))


def test_the_summary_is_of_the_frozen_network(trained):
    summary = trained.record["summary"]
    assert "Model frozen up to parameter group #1" in summary
    convolutions = [line for line in summary.splitlines() if line.startswith("Conv2d")]
    norms = [line for line in summary.splitlines() if line.startswith("BatchNorm")]
    assert convolutions
    assert norms
    assert all(line.split()[-1] == "False" for line in convolutions)
    assert all(line.split()[-1] == "True" for line in norms)


def test_the_published_weights_are_those_of_the_last_epoch(trained):
    last = trained.record["history"][-1]
    for name in ("error_rate", "balanced_accuracy", "macro_f1"):
        assert trained.metrics[name] == pytest.approx(last[name])


def test_metrics_depend_only_on_the_seed(tmp_path):
    folder = write_shapes(tmp_path / "in", each=8)
    table = build_table(folder, "folder", valid_pct=0.25)
    figures = []
    for number, seed in enumerate((1, 1, 2)):
        settings = TrainSettings(**SMALL, epochs=1, batch_size=8, seed=seed)
        record = fine_tune(table, folder, tmp_path / str(number), settings)
        figures.append([(row["train_loss"], row["valid_loss"]) for row in record["history"]])
        assert " at 0x" not in record["summary"]  # which differs between processes
    assert figures[0] == figures[1]
    assert figures[0] != figures[2]


def test_a_nan_loss_stops_the_training(tmp_path):
    folder = write_shapes(tmp_path / "in", each=8)
    table = build_table(folder, "folder", valid_pct=0.25)
    settings = TrainSettings(**SMALL, epochs=3, batch_size=8, lr=1e30)
    with pytest.raises(TrainError, match="give a smaller --lr"):
        fine_tune(table, folder, tmp_path / "checkpoint", settings)
    assert not (tmp_path / "checkpoint").exists()


def test_frozen_epochs_come_first_and_patience_stops_early(tmp_path):
    folder = write_shapes(tmp_path / "in", each=8)
    table = build_table(folder, "folder", valid_pct=0.25)
    settings = TrainSettings(**SMALL, epochs=20, freeze_epochs=1, patience=1, batch_size=8, lr=1e-9)
    shares = []
    record = fine_tune(
        table, folder, tmp_path / "checkpoint", settings, lambda share, _: shares.append(share)
    )
    history = record["history"]
    training = Training.model_validate(record["settings"] | record, strict=False)
    ran = f"1 frozen epoch and {len(history) - 1} of 20 unfrozen epochs (stopped early), base"
    assert ran in describe("recipe", training)
    assert history[0]["phase"] == "frozen"
    assert {row["phase"] for row in history[1:]} == {"unfrozen"}
    assert len(history) < 21
    assert shares == sorted(shares)
    assert max(shares) <= 1


def test_lr_find_gives_a_usable_rate(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    folder = write_shapes(tmp_path / "in", each=8)
    table = build_table(folder, "folder", valid_pct=0.25)
    settings = TrainSettings(**SMALL, epochs=1, batch_size=8, lr="find")
    record = fine_tune(table, folder, tmp_path / "checkpoint", settings)
    assert not list((tmp_path / "work").iterdir())  # where fastai keeps its weights meanwhile
    assert 0 < record["base_lr"] < 1
    assert math.isfinite(record["history"][0]["valid_loss"])


@pytest.mark.slow
def test_lr_find_for_several_gpus_accumulates_whole_steps(tmp_path):
    folder = write_shapes(tmp_path / "in", each=12)
    table = build_table(folder, "folder", valid_pct=0.25)
    learn = make_learner(table, folder, TrainSettings(**SMALL, batch_size=8, lr="find", gpus=2))
    shown, stepped = [], []

    class Seen(Callback):
        def before_batch(self):
            shown.append(len(self.x))

        def after_step(self):
            stepped.append(len(shown))

    learn.add_cb(Seen())
    with learn.no_bar(), learn.no_logging():
        assert 0 < find_learning_rate(learn, 2)["suggested"] < 1
    assert {*shown} == {4}
    assert stepped == [*range(2, 2 * len(stepped) + 1, 2)]
    assert learn.dls.bs == 8


def test_bad_images_stay_out_of_training(tmp_path):
    folder = write_shapes(tmp_path / "in", each=8)
    (folder / "circle/broken.png").write_bytes(b"no picture")
    table = build_table(folder, "folder", valid_pct=0.25)
    learn = make_learner(table, folder, TrainSettings(**SMALL, batch_size=8))
    assert len(learn.dls.train_ds) + len(learn.dls.valid_ds) == 24


def test_metrics_of_known_answers():
    metrics = compute_metrics(np.array([0, 1, 0, 1]), np.array([0, 1, 1, 0]), list("abc"))
    assert metrics["accuracy"] == 0.5
    assert metrics["error_rate"] == 0.5
    assert metrics["confusion"] == [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]
    first, _, last = metrics["by_class"]
    assert (first["precision"], first["recall"], first["count"]) == (0.5, 0.5, 2)
    assert last == {"class": "c", "precision": None, "recall": None, "count": 0}


def test_evaluate_draws_every_plot(trained, tmp_path):
    import shutil
    from pathlib import Path

    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(Path(trained.store).parent / "checkpoint", checkpoint)
    shutil.rmtree(checkpoint / "pictures")
    metrics = evaluate_checkpoint(trained.table, trained.dataset, checkpoint)
    assert metrics == trained.metrics
    for name in ("batch", "results", "top_losses"):
        assert (checkpoint / f"pictures/{name}.png").read_bytes().startswith(b"\x89PNG")
