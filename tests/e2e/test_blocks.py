"""Credentials from a block on a real Prefect server: they work and are never shown."""

import importlib.util
import logging
import os
import subprocess
import sys

import pytest
from conftest import write_shapes
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings
from s3_server import KEY, SECRET

from flows.score import score
from visionflows.errors import SettingsError
from visionflows.orchestration import blocks
from visionflows.storage import open_storage

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def named(s3, monkeypatch):
    """Credentials and endpoint only in a block."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name)
    blocks.load_session.cache_clear()
    monkeypatch.setenv("VISIONFLOWS_S3_BLOCK", "lab")


@pytest.fixture
def block(named, s3):
    prefect_aws = pytest.importorskip("prefect_aws", reason="prefect-aws is not installed")
    prefect_aws.AwsCredentials(
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        aws_client_parameters=prefect_aws.AwsClientParameters(endpoint_url=s3.url),
    ).save("lab", overwrite=True)


def test_a_flow_uses_a_block_and_stores_no_secret(block, trained, s3, tmp_path, caplog):
    where = s3.uri
    folder = write_shapes(tmp_path / "in", each=2)
    with caplog.at_level(logging.DEBUG):
        run = score(where(folder), "shapes", where(tmp_path / "out"), where(trained.store))
    assert run["counts"]["ok"] == 6
    assert SECRET not in caplog.text
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert SECRET.encode() not in file.read_bytes(), file
    with get_client(sync_client=True) as client:
        for what in ("flow_runs", "task_runs", "logs", "artifacts", "events", "block_documents"):
            answer = client.request("POST", f"/{what}/filter", json={})
            assert answer.status_code == 200
            assert SECRET not in answer.text, what


def test_a_missing_block_is_one_line(named, monkeypatch):
    pytest.importorskip("prefect_aws", reason="prefect-aws is not installed")
    monkeypatch.setenv("VISIONFLOWS_S3_BLOCK", "nowhere")
    with pytest.raises(
        SettingsError, match="no block aws-credentials/nowhere on the Pre"
    ) as caught:
        list(open_storage("s3://lab").walk())
    assert "\n" not in str(caught.value)


def test_without_prefect_aws_a_line_says_what_to_install(named, monkeypatch):
    monkeypatch.setenv("VISIONFLOWS_S3_BLOCK", "never-read")
    monkeypatch.setitem(sys.modules, "prefect_aws", None)
    with pytest.raises(SettingsError, match=r"pip install 'visionflows\[aws\]'"):
        list(open_storage("s3://lab").walk())


def models_listed(store: str, *more: str) -> subprocess.CompletedProcess[str]:
    """The output of `visionflows models list`, which runs no flow, for a store in a bucket."""
    env = {**os.environ, "PREFECT_API_URL": str(get_current_settings().api.url)}
    words = ["-m", "visionflows.cli", "models", "list", "--store", store]
    return subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True)


def test_a_command_without_a_flow_loads_blocks(named, s3, tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONFLOWS_S3_BLOCK", "nowhere")
    done = models_listed(s3.uri(tmp_path))
    if importlib.util.find_spec("prefect_aws"):
        line = "no block aws-credentials/nowhere on the Prefect server"
    else:
        line = "needs prefect-aws; pip install 'visionflows[aws]', or unset it"
    assert done.returncode == 2
    assert f"visionflows: VISIONFLOWS_S3_BLOCK=nowhere: {line}" in done.stderr


def test_models_list_uses_a_block(block, trained, s3):
    done = models_listed(s3.uri(trained.store))
    assert (done.returncode, done.stderr) == (0, "")
    assert "shapes@" in done.stdout
