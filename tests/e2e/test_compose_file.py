"""compose.yaml follows the compose specification."""

import subprocess
import sys
from pathlib import Path

import pytest

INFRA = Path(__file__).parents[2] / "infra"


def test_compose_yaml_is_valid():
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    result = subprocess.run([*command, INFRA / "compose.yaml"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
