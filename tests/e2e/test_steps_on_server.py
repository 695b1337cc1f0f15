"""A flow run and a plain call write the same result."""

import pytest
from conftest import write_shapes
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.score import score


def flow_runs() -> int:
    with get_client(sync_client=True) as client:
        return len(client.read_flow_runs(limit=200))


@pytest.mark.usefixtures("prefect_server")
def test_a_flow_run_and_a_plain_call_write_the_same_bytes(trained, tmp_path):
    folder = write_shapes(tmp_path / "in", each=2)
    before = flow_runs()
    score(str(folder), "shapes", str(tmp_path / "flow"), str(trained.store))
    assert flow_runs() == before + 1
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        score(str(folder), "shapes", str(tmp_path / "plain"), str(trained.store))
    assert flow_runs() == before + 1
    files = [(tmp_path / name / "predictions.csv").read_bytes() for name in ("flow", "plain")]
    assert files[0] == files[1]
