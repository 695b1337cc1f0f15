"""The command of compose.yaml that applies the deployments."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_compose_applies_the_deployments(prefect_server, tmp_path):
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
        result = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    with get_client(sync_client=True) as client:
        assert {"train", "score", "retrain", "notify"} <= {
            one.name for one in client.read_deployments()
        }
