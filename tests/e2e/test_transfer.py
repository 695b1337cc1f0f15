"""Transfer learning reaches a few per cent of error after fine_tune(1), as in the tutorial.

Uses ImageNet weights and real photos of cats and dogs, if both are beside the clone. The error rate
of chance is 0.5; without pretrained weights it is about 0.35.
"""

import tarfile

from visionflows.datasets.file_table import build_table
from visionflows.training.evidence.evaluate import evaluate_checkpoint
from visionflows.training.fine_tune import fine_tune
from visionflows.training.settings import TrainSettings

EACH = 400  # of cats and of dogs: half for training, half for validation


def test_a_few_photos_and_one_epoch_from_real_weights(shared_data, tmp_path):
    with tarfile.open(shared_data / "cats-dogs.tgz") as archive:
        photos = [member for member in archive if member.name.endswith(".jpg")]
        for kind in ("House_Cat_", "village_dog_"):
            some = [member for member in photos if kind in member.name][:EACH]
            archive.extractall(tmp_path, some, filter="data")
    folder = tmp_path / "cats-dogs"
    settings = TrainSettings(
        architecture="tf_efficientnet_lite0",
        pretrained=str(shared_data / "tf_efficientnet_lite0.safetensors"),
        image_size=160,
        batch_size=32,
    )
    table = build_table(folder, "uppercase", valid_pct=0.5, decode_options=settings.decode_options)
    assert len(table) == 2 * EACH
    fine_tune(table, folder, tmp_path / "checkpoint", settings)
    metrics = evaluate_checkpoint(table, folder, tmp_path / "checkpoint")
    # Two seeds gave 0.072 and 0.078; with 400 images the standard error is 0.013.
    assert metrics["error_rate"] <= 0.1
