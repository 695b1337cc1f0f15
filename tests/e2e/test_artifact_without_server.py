"""A run goes on when its server is unavailable."""

import logging

import pytest
from prefect import flow
from server_away import server_away

from visionflows.orchestration import artifacts


@pytest.mark.usefixtures("prefect_server")
def test_an_unavailable_server_costs_an_artifact_and_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("visionflows"), "propagate", True)

    @flow
    def hindered() -> str:
        with server_away():
            artifacts.create_epoch_table([{"epoch": 0, "train_loss": 0.5}])
        return "done"

    with caplog.at_level("WARNING", logger="visionflows"):
        assert hindered() == "done"
    lines = {line for line in caplog.messages if "is not in the UI" in line}
    assert lines == {
        "the artifact epochs is not in the UI: the server is unavailable (ConnectError)"
    }
