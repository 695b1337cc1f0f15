"""Scoring runs on a Prefect server: results, names of task runs, and the log of a failure."""

import json
import os
import time

import pytest
from conftest import write_shapes
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.sorting import TaskRunSort

from flows.score import score
from visionflows.errors import StorageError
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_a_flow_run_writes_the_same_csv_as_the_function_and_a_report(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=7, first_seed=700)
    (folder / "broken, <b>.jpg").write_bytes(b"no picture")
    settings = ScoreSettings(shard_size=5, max_error_rate=0.1)
    store = where(trained.store)
    arguments = (where(folder), "shapes", where(tmp_path / "out"), store, settings)
    state = score(*arguments, return_state=True)
    run = state.result()
    score_folder(where(folder), "shapes", where(tmp_path / "plain"), store, settings)
    data = (tmp_path / "out/predictions.csv").read_bytes()
    assert data == (tmp_path / "plain/predictions.csv").read_bytes()
    assert json.loads((tmp_path / "out/run.json").read_text()) == run
    assert run["counts"]["found"] == 22
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("data:image/jpeg") >= 15
    assert "broken, &lt;b&gt;.jpg" in page
    with get_client(sync_client=True) as client:
        details = client.read_flow_run(state.state_details.flow_run_id)
        assert details.name == f"score {where(folder)} with shapes"
        runs = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[details.id])),
            sort=TaskRunSort.ID_DESC,
            limit=100,
        )
        names = {task.name for task in runs}
        assert {"load shapes", "shard 0", "shard 4"} <= names
        assert all(task.state_name == "Completed" for task in runs)


def test_a_failed_run_logs_one_line(trained, tmp_path):
    state = score(
        str(tmp_path / "nowhere"),
        "shapes",
        str(tmp_path / "out"),
        str(trained.store),
        return_state=True,
    )
    assert state.is_failed()
    with pytest.raises(StorageError, match="no such folder"):
        state.result()
    with get_client(sync_client=True) as client:
        chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[state.state_details.flow_run_id]))
        errors = _soon(
            lambda: [
                log for log in client.read_logs(chosen, limit=200, offset=0) if log.level >= 40
            ]
        )
    assert [log.message for log in errors if "no such folder" in log.message]
    assert not any("Traceback" in log.message for log in errors)


def _soon(read):
    """Wait until `read` returns something: logs reach the server a moment later."""
    deadline = time.monotonic() + 20
    while not (found := read()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def test_a_thousand_shards_are_a_hundred_task_runs(trained, tmp_path):
    """One file per shard, so that a thousand files are enough; finished shards are not repeated."""
    write_shapes(tmp_path / "in", each=2)
    for number in range(1000 - 6):
        os.link(tmp_path / "in/circle/0000.png", tmp_path / f"in/circle/link-{number:04d}.png")
    settings = ScoreSettings(shard_size=1, workers=1)
    where = (str(tmp_path / "in"), "shapes", str(tmp_path / "out"), str(trained.store), settings)
    state = score(*where, return_state=True)
    assert state.result()["counts"]["ok"] == 1000
    assert len(list((tmp_path / "out/parts").glob("part-*.csv"))) == 1000
    names = _task_runs(state)
    assert len(names) <= 104  # with load, list, merge and report
    assert {"shards 0 to 9", "shards 990 to 999"} <= names
    for number in (3, 4, 500):
        (tmp_path / f"out/parts/part-{number:05d}.json").unlink()
    (tmp_path / "out/run.json").unlink()
    again = score(*where, return_state=True)
    assert again.result()["counts"]["ok"] == 1000
    assert {name for name in _task_runs(again) if "shard" in name} == {
        "shard 3",
        "shard 4",
        "shard 500",
    }


def _task_runs(state) -> set[str]:
    """The names of a flow run's task runs; all completed, and no name is repeated."""
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(flow_run_filter=chosen, limit=200)
    assert all(run.state_name == "Completed" for run in runs)
    assert len({run.name for run in runs}) == len(runs)
    return {run.name for run in runs}
