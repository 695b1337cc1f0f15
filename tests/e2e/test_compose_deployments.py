"""The command of compose.yaml that applies the deployments."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_its_deployments_are_applied_wherever_the_container_starts(prefect_server, tmp_path):
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    compose = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())
    command = [sys.executable, *compose["services"]["deployments"]["command"][1:]]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PREFECT_API_URL": PREFECT_API_URL.value(),
        "VISIONFLOWS_FOLDER": "/data",
        "VISIONFLOWS_STORE": "s3://visionflows/store",
    }
    for _ in range(2):  # it runs at every `up`
        told = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
        assert told.returncode == 0, told.stdout + told.stderr
    with get_client(sync_client=True) as client:
        assert {"train", "score", "retrain", "notify"} <= {
            one.name for one in client.read_deployments()
        }
