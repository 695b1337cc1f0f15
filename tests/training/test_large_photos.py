"""Training on large photos: downscaled copies are used and give the same training."""

import shutil

import numpy as np
import pytest
from conftest import CLASSES, picture, shape

from visionflows.datasets.file_table import build_table, downscaled_cache
from visionflows.images.open import open_image
from visionflows.training.dataloaders import make_dataloaders
from visionflows.training.evidence.evaluate import evaluate_checkpoint
from visionflows.training.fine_tune import fine_tune
from visionflows.training.settings import TrainSettings

SETTINGS = TrainSettings(
    architecture="test_resnet", pretrained="none", image_size=32, epochs=2, lr=3e-3, workers=0
)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Large images of every class, one small and one rotated image; and an empty cache."""
    monkeypatch.setenv("VISIONFLOWS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True)
        for seed in range(6):
            large = shape(kind, seed).resize((400, 300))
            large.save(folder / kind / f"{seed}.{('jpg', 'png')[seed % 2]}")
    shape("circle", 9).save(folder / "circle/small.jpg")
    exif = picture().getexif()
    exif[0x0112] = 6
    shape("circle", 10).resize((300, 500)).save(folder / "circle/turned.jpg", exif=exif)
    return folder


def table_of(photos):
    return build_table(photos, "folder", decode_options=SETTINGS.decode_options)


def test_only_large_photos_have_a_downscaled_copy(photos):
    table, copies = table_of(photos), downscaled_cache(SETTINGS.decode_options)
    assert len(table) == 20
    for row in table.itertuples():
        copy = copies.get(row.sha256)
        assert (copy is None) == (row.path == "circle/small.jpg")
        if copy:
            assert min(copy.size) >= 64
            assert copy.width < row.width
            assert np.array_equal(
                copy, open_image(photos / row.path, decode_options=SETTINGS.decode_options)
            )


def test_full_decoding_makes_no_copies(photos, tmp_path):
    build_table(photos, "folder")
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_epochs_and_plots_use_the_copies(photos, tmp_path):
    table = table_of(photos)
    for row in table.itertuples():  # opening a large one fails from here on
        if row.path != "circle/small.jpg" and not row.is_valid:
            (photos / row.path).unlink()
    settings = SETTINGS.model_copy(update={"lr": "find"})
    fine_tune(table, photos, tmp_path / "checkpoint", settings)
    assert "skipped_plots" not in evaluate_checkpoint(table, photos, tmp_path / "checkpoint")


def test_training_with_copies_gives_the_same_result(photos, tmp_path):
    table = table_of(photos)
    fine_tune(table, photos, tmp_path / "a", SETTINGS)
    shutil.rmtree(tmp_path / "cache")  # at any time
    fine_tune(table, photos, tmp_path / "b", SETTINGS)
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_dataloader_processes_use_the_copies(photos):
    table = table_of(photos)
    for row in table[~table.is_valid].itertuples():
        if row.path != "circle/small.jpg":
            (photos / row.path).unlink()
    loaders = make_dataloaders(table, photos, SETTINGS.model_copy(update={"workers": 2}))
    assert sum(len(labels) for _, labels in loaders.train) >= len(loaders.train_ds) - loaders.bs
