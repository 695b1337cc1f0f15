"""Secrets of URLs are not stored by the Prefect server, nor logged."""

import base64
import json
import logging
import tarfile

import pytest
from conftest import write_shapes
from file_server import serving
from prefect.client.orchestration import get_client

from flows.train import train
from visionflows.errors import FetchError
from visionflows.training.settings import TrainSettings

TINY = TrainSettings(
    architecture="resnet18", pretrained="none", image_size=32, epochs=1, lr=3e-3, batch_size=16
)


def everything() -> dict[str, str]:
    """Everything that the server stores about runs, as text."""
    with get_client(sync_client=True) as client:
        kinds = ("flow_runs", "task_runs", "logs", "artifacts", "events")
        return {kind: client.request("POST", f"/{kind}/filter", json={}).text for kind in kinds}


@pytest.mark.usefixtures("prefect_server")
def test_a_url_with_secrets_is_fetched_and_not_stored(tmp_path, caplog, monkeypatch):
    write_shapes(tmp_path / "shapes", each=8)
    with tarfile.open(tmp_path / "shapes.tgz", "w:gz") as archive:
        archive.add(tmp_path / "shapes", "shapes")
    archive = (tmp_path / "shapes.tgz").read_bytes()
    with caplog.at_level(logging.DEBUG), serving(archive) as server, serving(b"") as hook:
        monkeypatch.setenv("VISIONFLOWS_WEBHOOK", hook.url("hook"))
        url = server.url("shapes.tgz").replace("//", "//me:pa55word@") + "?X-Amz-Signature=51gn"
        state = train(url, "shapes", settings=TINY, store=str(tmp_path / "a"), return_state=True)
        assert state.is_completed()
        server.answers = [(404, {})]
        failed = train(
            url + "2", "shapes", settings=TINY, store=str(tmp_path / "b"), return_state=True
        )
        with pytest.raises(FetchError, match="not found"):
            failed.result()
    path, credentials = server.asked[0]
    assert path == "/shapes.tgz?X-Amz-Signature=51gn"
    assert base64.b64decode(credentials.removeprefix("Basic ")) == b"me:pa55word"
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(state.state_details.flow_run_id)
    redacted = f"http://127.0.0.1:{server.port}/shapes.tgz?…"
    assert run.name == f"train shapes from {redacted}"
    assert run.parameters["dataset"] == redacted
    for kind, text in {**everything(), "log": caplog.text, "webhook": f"{hook.posted}"}.items():
        assert "pa55word" not in text, kind
        assert "51gn" not in text, kind
    assert json.loads(hook.posted[0])["text"].startswith(f"train shapes from {redacted}: Failed: ")


@pytest.mark.usefixtures("prefect_server")
def test_an_error_with_a_url_is_stored_redacted(tmp_path):
    label_rule = "csv:https://me:pa55word@host/labels.csv"
    write_shapes(tmp_path / "shapes", each=2)
    state = train(str(tmp_path / "shapes"), "x", label_rule, store=str(tmp_path), return_state=True)
    assert state.is_failed()
    assert "pa55word" not in state.message
    for kind, text in everything().items():
        assert "pa55word" not in text, kind
