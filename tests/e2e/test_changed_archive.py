"""Retraining on an archive at a URL that has changed."""

import hashlib
import io
import tarfile
from pathlib import Path

from conftest import write_shapes
from file_server import serving

from flows.retrain import retrain
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.training.settings import TrainSettings


def archive_of(folder: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.add(folder, "shapes")
    return content.getvalue()


def test_retrain_uses_the_current_archive(tmp_path):
    """The comparison uses the images of the first training, which are no longer at the URL."""
    tiny = TrainSettings(
        architecture="resnet18", pretrained="none", image_size=32, epochs=1, batch_size=16
    )
    archives = []
    for at in range(2):
        folder = write_shapes(tmp_path / f"shapes{at}", each=8, first_seed=100 * at)
        archives.append(archive_of(folder))
    with serving(archives[0]) as server:
        retrain(server.url("shapes.tgz"), "shapes", settings=tiny, store=str(tmp_path / "store"))
        server.content, server.tag = archives[1], '"v2"'
        again = retrain(
            server.url("shapes.tgz"), "shapes", settings=tiny, store=str(tmp_path / "store")
        )
    info = load_model(find_model(again["model"], str(tmp_path / "store"))).info
    assert info.dataset.sha256 == hashlib.sha256(archives[1]).hexdigest()
    assert again["images"] > 0
    assert again["gone"] == 0
