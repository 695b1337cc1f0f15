"""An invalid prefect.yaml is refused; tests/e2e applies a valid one."""

import pytest

from visionflows.serve import deploy
from visionflows.serve.settings import UpError


@pytest.mark.parametrize("text", [b"deployments: [", b"name: \xff"])
def test_a_file_that_is_not_yaml_is_refused_before_any_request(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_bytes(text)
    with pytest.raises(UpError, match=f"^{file}: not YAML .*; correct it$"):
        deploy.apply(file, {"PREFECT_API_URL": "http://127.0.0.1:9/api"}, tmp_path / "log")
