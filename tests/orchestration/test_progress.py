"""How far a run is, as its server is told."""

import prefect.artifacts
from prefect import flow
from prefect.client.orchestration import get_client

from visionflows.orchestration import progress


def test_a_server_is_told_of_each_hundredth_whatever_there_is(prefect_server, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    update, told = prefect.artifacts.update_progress_artifact, []

    def counted(artifact, progress):
        told.append(progress)
        update(artifact, progress=progress)

    monkeypatch.setattr(prefect.artifacts, "update_progress_artifact", counted)

    @flow
    def many_steps():
        with progress.Progress("scoring", total=1000) as bar:
            bar.of(5000)
            for _ in range(5000):
                bar.add(1)

    many_steps()
    assert len(told) <= 101
    assert told[-1] == 100.0
    with get_client(sync_client=True) as client:
        assert any(one.data == 100.0 for one in client.read_artifacts())
