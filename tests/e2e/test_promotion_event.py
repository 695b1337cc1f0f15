"""The event of a promotion, as the Prefect server stores it."""

import shutil
import uuid

import pytest
from events_seen import wait_for_event

from visionflows.orchestration import events


@pytest.mark.usefixtures("prefect_server")
def test_the_event_names_the_store_by_its_absolute_path(trained, tmp_path, monkeypatch):
    shutil.copytree(trained.store, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    alias = f"try-{uuid.uuid4().hex[:8]}"
    assert events.promote("shapes", "mine", alias) == f"shapes@{alias}"
    payload = wait_for_event(events.PROMOTED, f"visionflows.model.shapes.{alias}").payload
    assert (payload["model"], payload["store"]) == (f"shapes@{alias}", str(tmp_path / "mine"))
