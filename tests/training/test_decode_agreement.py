"""Training decodes images as scoring does; the agreement of full and downscaled decoding."""

import icc_files
import numpy as np
import pandas as pd
import pytest
from conftest import encoded, picture
from PIL import Image

from visionflows.datasets.file_table import build_table
from visionflows.images.decode_options import DecodeOptions
from visionflows.images.open import pixels
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.training.dataloaders import SeededResize, make_dataloaders
from visionflows.training.evidence.label_agreement import (
    measure_decode_agreement,
)
from visionflows.training.settings import TrainSettings


def write(folder, size: tuple[int, int] = (400, 300)) -> None:
    """Write large images of two classes: photos, and logos on a transparent background."""
    for kind in ("jpg", "png"):
        (folder / kind).mkdir()
        for seed in range(6):
            image = picture(seed, size, "RGB" if kind == "jpg" else "RGBA")
            if kind == "png":
                image.putalpha(Image.fromarray(np.asarray(picture(seed + 9, size, "L"))))
            (folder / kind / f"{seed}.{kind}").write_bytes(
                encoded(image, "JPEG" if kind == "jpg" else "PNG", icc_profile=icc_files.SWAPPED)
            )


@pytest.mark.parametrize("decode, side", [("auto", 32), ("scaled", 32), ("full", None)])
def test_training_and_scoring_decode_the_same_pixels(tmp_path, decode, side):
    write(tmp_path)
    settings = TrainSettings(image_size=32, decode=decode, workers=0, batch_size=4)
    assert settings.decode_options == DecodeOptions(side, "convert")
    table = build_table(tmp_path, "folder", decode_options=settings.decode_options)
    assert set(zip(table.width, table.height, strict=True)) == {(400, 300)}
    valid = make_dataloaders(table, tmp_path, settings).valid_ds
    paths = table[table.is_valid].path
    for path, (image, _) in zip(paths, valid, strict=True):
        shown = settings_resize(image, settings)
        scored = pixels(tmp_path / path, 32, "crop", decode_options=settings.decode_options)
        np.testing.assert_array_equal(shown, scored)


def settings_resize(image, settings: TrainSettings) -> np.ndarray:
    return np.asarray(SeededResize(settings.image_size, settings.resize)(image, split_idx=1))


def test_decode_agreement_uses_only_large_images(trained, tmp_path):
    write(tmp_path)
    model = load_model(find_model("shapes", trained.store))
    table = pd.DataFrame({"path": [f"jpg/{seed}.jpg" for seed in range(6)], "width": 400})
    table = table.assign(height=300, status="ok", is_valid=True)
    found = measure_decode_agreement(model, table, tmp_path)
    assert found["images"] == 6
    assert 0 < found["largest_difference"] < 0.5
    assert found["mean_difference"] <= found["largest_difference"]
    assert 0 <= found["disagreements"] <= 6
    rows = [("jpg/0.jpg", 400, 300), ("jpg/1.jpg", 400, 127), ("jpg/2.jpg", 127, 300)]
    files = pd.DataFrame(rows, columns=["path", "width", "height"]).assign(
        status="ok", is_valid=True
    )
    assert measure_decode_agreement(model, files, tmp_path)["images"] == 1
    assert measure_decode_agreement(model, files[1:], tmp_path)["images"] == 0
