"""A run with drift sends an event and an artifact to the server."""

import time

import pytest
from conftest import CLASSES, shape
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows.score import score
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_a_drifted_run_completes_and_sends_its_event(trained, tmp_path):
    settings, folder = ScoreSettings(only_new=True), tmp_path / "in"
    where = (str(folder), "shapes", str(tmp_path / "out"), str(trained.store))
    folder.mkdir()
    for number in range(5):
        for seed in range(30):
            shape(CLASSES[seed % 3], 1000 * number + seed).save(folder / f"{number}-{seed}.png")
        score_folder(where[0], where[1], where[2], where[3], settings)
    for seed in range(100):
        (folder / f"broken-{seed}.jpg").write_bytes(b"no picture")
    lenient = settings.model_copy(update={"max_error_rate": 1.0})
    state = score(*where, lenient, return_state=True)
    assert state.is_completed()
    warned = [found for found in state.result()["drift"]["findings"] if found["warns"]]
    assert warned[0]["description"] == "failures: 100.0 % of the files; in the 5 runs before: 0.0 %"
    run = str(state.state_details.flow_run_id)
    with get_client(sync_client=True) as client:
        chosen = ArtifactFilter(key=ArtifactFilterKey(any_=["drift"]))
        notes = [one.data for one in client.read_artifacts(artifact_filter=chosen)]
        (event,) = _events(client, run)
    assert any(str(tmp_path / "out") in note.replace("\\", "") for note in notes)
    assert all("**warns**" in note for note in notes)
    assert event["payload"]["quantities"][0] == "failures"
    assert event["payload"]["warnings"][0] == warned[0]["description"]
    assert event["payload"]["output"] == str(tmp_path / "out")
    again = score(*where, lenient, return_state=True)  # nothing is new
    assert again.result()["drift"] == state.result()["drift"]
    with get_client(sync_client=True) as client:
        time.sleep(1)
        assert _found(client, str(again.state_details.flow_run_id)) == []


def _events(client, run: str) -> list[dict]:
    """Wait for the drift events of a run."""
    deadline = time.monotonic() + 20
    while not (found := _found(client, run)) and time.monotonic() < deadline:
        time.sleep(0.3)
    return found


def _found(client, run: str) -> list[dict]:
    chosen = {"event": {"name": ["visionflows.run.drifted"]}}
    answer = client._client.post("/events/filter", json={"filter": chosen})
    found = answer.raise_for_status().json()["events"]
    return [one for one in found if one["resource"]["prefect.resource.id"].endswith(run)]
