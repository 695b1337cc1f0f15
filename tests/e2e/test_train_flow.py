"""A training run on a Prefect server, from an archive to a model artifact."""

import re
import tarfile

import pytest
from conftest import write_shapes
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.train import train
from visionflows.errors import TableError
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.training.settings import TrainSettings

TINY = TrainSettings(
    architecture="resnet18", pretrained="none", image_size=32, epochs=1, lr=3e-3, batch_size=16
)
pytestmark = pytest.mark.usefixtures("prefect_server")


def test_an_archive_becomes_a_published_model_with_artifacts(where, tmp_path):
    shapes = write_shapes(tmp_path / "shapes", each=12)
    (shapes / "circle/broken.png").write_bytes(b"\x89PNG but no more")
    with tarfile.open(tmp_path / "shapes.tgz", "w:gz") as archive:
        archive.add(shapes, "shapes")
    store, dataset = where(tmp_path / "store"), where(tmp_path / "shapes.tgz")
    state = train(
        dataset,
        "shapes",
        labels=r"regex:^(\d\d)",
        settings=TINY,
        store=store,
        return_state=True,
    )
    assert state.is_failed()  # every label is `00`: one class only
    with pytest.raises(TableError, match="all 36 images one label, 00"):
        state.result()
    state = train(dataset, "shapes", settings=TINY, store=store, return_state=True)
    model = load_model(find_model("shapes", store))
    assert state.result() == str(model.storage)
    assert model.classes == ["circle", "square", "stripes"]
    assert model.info.dataset.skipped == 1
    assert model.info.precision.agreement.auto in ("bfloat16", "float32")
    assert model.info.decode == "scaled"
    assert model.info.decode_agreement.images == 0  # 40 pixels a side: none is large
    page = model.storage.read("report.html").decode()
    for picture in ("batch", "results", "top_losses"):
        assert model.storage.exists(f"pictures/{picture}.png")
    assert len(re.findall("data:image/(?:webp|jpeg)", page)) >= 3
    assert "Confusion matrix" in page
    assert "Sequential" in page  # learn.summary() of the frozen network
    assert not re.search(r'(src|href)="http', page)
    _check_traces(state.state_details.flow_run_id)


def _check_traces(run_id) -> None:
    """Check the run on the server: task names, artifacts, and log lines of the steps."""
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(run_id)
        assert re.fullmatch(r"train shapes from .*shapes\.tgz", run.name)
        chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        found = client.request(
            "POST", "/artifacts/filter", json={"artifacts": chosen.model_dump(mode="json")}
        )
        kinds = sorted(artifact["type"] for artifact in found.json())
        assert kinds == ["markdown", "progress", "table", "table"]  # epochs, metrics by class
