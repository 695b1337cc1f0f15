"""The train flow without a Prefect server: reproducible, and how it fails."""

import pytest

from flows.train import train
from visionflows.errors import SettingsError, StorageError
from visionflows.training.settings import TrainSettings

TINY = TrainSettings(
    architecture="test_resnet", pretrained="none", image_size=32, epochs=1, lr=3e-3, batch_size=16
)


@pytest.mark.parametrize(
    "wrong,error,line",
    [
        ({"labels": "colour"}, SettingsError, "colour"),
        ({"labels": "regex:("}, SettingsError, r"regex"),
        ({"group": "camera"}, SettingsError, "--group camera: no such rule"),
        ({"name": "../x"}, SettingsError, "cannot name a model"),
        ({"corrections": ("nowhere.csv",)}, StorageError, "nowhere.csv: no such file"),
        (
            {"corrections_in_validation": True},
            SettingsError,
            "needs --corrections",
        ),
        ({"dataset": "nowhere.tgz"}, StorageError, "no such file or folder"),
        ({"settings": TrainSettings(architecture="resnet19")}, SettingsError, "resnet19"),
        (
            {"settings": TrainSettings(architecture="swin_tiny_patch4_window7_224")},
            SettingsError,
            "swin_tiny_patch4_window7_224: cannot be trained on images of 224 pixels",
        ),
        (
            {"settings": TrainSettings(architecture="inception_v3", image_size=32)},
            SettingsError,
            "inception_v3: cannot be trained on images of 32 pixels",
        ),
        (
            {"settings": TrainSettings(architecture="vit_tiny_patch16_224", image_size=96)},
            SettingsError,
            "vit_tiny_patch16_224: cannot be trained on images of 96 pixels",
        ),
    ],
)
def test_invalid_arguments_fail_before_any_work(tmp_path, wrong, error, line):
    arguments = {"dataset": "digits", "name": "digits", "store": str(tmp_path / "store"), **wrong}
    with pytest.raises(error, match=line) as caught:
        train(**arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store/datasets").exists()
