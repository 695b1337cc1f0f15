"""Progress of a flow run, as its server receives it."""

import contextlib
import logging
import time

import prefect.artifacts
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from server_away import server_away

from visionflows.orchestration import progress


def test_progress_is_sent_at_most_once_per_percent(prefect_server, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    update, updates = prefect.artifacts.update_progress_artifact, []

    def counted(artifact, progress):
        updates.append(progress)
        update(artifact, progress=progress)

    monkeypatch.setattr(prefect.artifacts, "update_progress_artifact", counted)

    @flow
    def many_steps():
        with progress.Progress("scoring", total=1000) as bar:
            bar.set_total(5000)
            for _ in range(5000):
                bar.advance(1)

    many_steps()
    assert len(updates) <= 101
    assert updates[-1] == 100.0
    with get_client(sync_client=True) as client:
        assert any(one.data == 100.0 for one in client.read_artifacts())


@pytest.fixture
def away(monkeypatch, caplog):
    """The log lines for an unavailable server, which gets no requests for a second."""
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.setattr(progress, "PAUSE", 1.0)
    monkeypatch.setattr(logging.getLogger("visionflows"), "propagate", True)
    caplog.set_level("WARNING", logger="visionflows")
    return lambda: [line for line in caplog.messages if "is not in the UI" in line]


@pytest.mark.parametrize("from_the_start", [False, True])
def test_progress_pauses_while_the_server_is_unavailable(prefect_server, away, from_the_start):
    what = f"scoring {from_the_start}"

    @flow
    def hindered():
        with contextlib.ExitStack() as gone:
            if from_the_start:
                gone.enter_context(server_away())
            with progress.Progress(what, total=100) as bar:
                bar.advance(10)
                if not from_the_start:
                    gone.enter_context(server_away())
                bar.advance(10)
                begun = time.monotonic()
                for _ in range(60):
                    bar.advance(1)
                assert time.monotonic() - begun < 5  # nothing waits for it
                gone.close()
                time.sleep(1)
                bar.advance(10)
                data = [one.data for one in client.read_artifacts() if one.description == what]
                assert data == [90.0]

    with get_client(sync_client=True) as client:
        hindered()
    assert away() == [
        f"the progress of {what} is not in the UI: the server is unavailable (ConnectError)"
    ]
