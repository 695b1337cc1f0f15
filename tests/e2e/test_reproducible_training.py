"""The train flow without a Prefect server is reproducible."""

from conftest import write_shapes

from flows.train import train
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.training.settings import TrainSettings

TINY = TrainSettings(
    architecture="test_resnet", pretrained="none", image_size=32, epochs=1, lr=3e-3, batch_size=16
)


def test_the_same_seed_gives_the_same_metrics(tmp_path):
    shapes = write_shapes(tmp_path / "shapes", each=8)
    metrics = []
    for name in ("a", "b"):
        store = tmp_path / name
        train(str(shapes), "shapes", settings=TINY, store=str(store))
        metrics.append(load_model(find_model("shapes", str(store))).info.metrics)
    assert metrics[0].model_dump() == metrics[1].model_dump()
