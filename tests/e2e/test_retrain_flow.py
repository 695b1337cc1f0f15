"""The retrain flow: a later model is promoted only if it is better, and the run says why."""

import pytest
from conftest import write_shapes
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.retrain import retrain
from visionflows.models.artifact import load_model
from visionflows.models.promotion_history import read_promotions
from visionflows.models.registry import find_model
from visionflows.training.settings import TrainSettings

pytestmark = pytest.mark.usefixtures("prefect_server")
TINY = TrainSettings(
    architecture="resnet18", pretrained="none", image_size=32, epochs=1, lr=3e-3, batch_size=16
)


def test_the_first_model_is_promoted_and_an_equal_one_is_not(where, tmp_path):
    shapes, store = write_shapes(tmp_path / "shapes", each=8), where(tmp_path / "store")
    state = retrain(str(shapes), "shapes", settings=TINY, store=store, return_state=True)
    first = state.result()
    assert first["promoted"]
    (kept,) = read_promotions("shapes", store)
    assert (f"shapes@{kept.version}", kept.before) == (first["model"], "")
    assert kept.who == f"flow run {state.state_details.flow_run_id}"
    assert kept.why == f"retrain: {first['why']}"
    state = retrain(str(shapes), "shapes", settings=TINY, store=store, return_state=True)
    second = state.result()
    assert second["model"] != first["model"]
    assert not second["promoted"]  # the same seed: the same network
    assert load_model(find_model("shapes@production", store)).name == first["model"]
    assert load_model(find_model("shapes", store)).name == second["model"]
    assert read_promotions("shapes", store) == [kept]
    _check_lineage(first["model"], second["model"], store)
    assert (second["candidate"], second["production"]) == (second["model"], first["model"])
    assert "no evidence that it is better" in second["why"]
    note = summary(state.state_details.flow_run_id)
    assert f"{second['model']}: not promoted" in note
    assert "no evidence that it is better" in note.replace("\\", "")
    assert f"Production stays `{first['model']}`" in note
    assert f"`visionflows models compare {second['model']} {first['model']}`" in note


def _check_lineage(first: str, second: str, store: str) -> None:
    """The parent is the former production version; the flow run is that of the training."""
    infos = [load_model(find_model(model, store)).info for model in (first, second)]
    assert [f"shapes@{info.lineage.parent}" for info in infos] == ["shapes@", first]
    with get_client(sync_client=True) as client:
        for info in infos:
            assert client.read_flow_run(info.lineage.flow_run).name.startswith("train shapes from")


def summary(run_id) -> str:
    """The artifacts of a run of retrain."""
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    with get_client(sync_client=True) as client:
        asked = {"artifacts": chosen.model_dump(mode="json")}
        found = client.request("POST", "/artifacts/filter", json=asked).json()
    (note,) = [one["data"] for one in found if one["key"] == "retrain-summary"]
    return note
