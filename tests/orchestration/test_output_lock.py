"""Outputs of scoring runs: one that is in use, and a new one for each night of a queue."""

import contextlib
import os
import threading

import pandas as pd
import pytest
from conftest import write_shapes

from flows.score import score
from visionflows.errors import LockedError
from visionflows.orchestration.output_lock import wait_for_output
from visionflows.scoring.run import lock_output


def test_a_command_says_that_it_waits_for_an_output(tmp_path, caplog):
    output = str(tmp_path / "out")
    with contextlib.ExitStack() as other:
        other.enter_context(lock_output(output, 0))
        with pytest.raises(LockedError), wait_for_output(output, 0):
            pass
        threading.Timer(0.5, other.pop_all().close).start()
        with caplog.at_level("INFO"), wait_for_output(output, 60):
            pass
    assert f"{output}: another run is writing here; waiting up to 60 s" in caplog.text


def test_an_inbox_that_is_a_queue_keeps_the_rows_of_every_night(trained, tmp_path):
    """Files are taken away after each night, and a night without files is an ordinary one."""
    inbox, store = tmp_path / "inbox", tmp_path / "store"
    os.symlink(trained.store / "models", (store.mkdir(), store / "models")[1])
    found = []
    for seed in (0, None, 2):
        inbox.mkdir()
        if seed is not None:
            write_shapes(inbox, each=2, first_seed=seed)
        found.append(score(str(inbox), "shapes", store=str(store))["counts"]["found"])
        inbox.rename(tmp_path / f"done-{len(found)}")
    assert found == [6, 0, 6]
    nights = sorted(store.glob("scores/*/predictions.csv"))
    rows = pd.concat([pd.read_csv(file).assign(night=file.parent.name) for file in nights])
    assert len(rows) == 12
    assert rows["night"].nunique() == 2
