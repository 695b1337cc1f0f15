"""The retrain flow: the first model is promoted, a later one only if it is better."""

import pytest
from conftest import write_shapes

from flows.retrain import retrain
from visionflows.model.bundle import load
from visionflows.model.registry import find
from visionflows.training.settings import TrainSettings

pytestmark = pytest.mark.usefixtures("prefect_server")
TINY = TrainSettings(
    architecture="resnet18", pretrained="none", image_size=32, epochs=1, lr=3e-3, batch_size=16
)


def test_the_first_is_promoted_and_an_equal_one_is_not(where, tmp_path):
    shapes, store = write_shapes(tmp_path / "shapes", each=8), where(tmp_path / "store")
    first = retrain(str(shapes), "shapes", settings=TINY, store=store)
    assert first["promoted"]
    second = retrain(str(shapes), "shapes", settings=TINY, store=store)
    assert second["model"] != first["model"]
    assert not second["promoted"]  # the same seed: the same network
    assert load(find("shapes@production", store)).name == first["model"]
    assert load(find("shapes", store)).name == second["model"]
