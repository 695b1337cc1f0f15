"""A file that is no prefect.yaml is refused; what applying one does is in tests/e2e."""

import pytest

from visionflows.serve import deploy
from visionflows.serve.settings import UpError


@pytest.mark.parametrize("text", [b"deployments: [", b"name: \xff"])
def test_a_file_that_is_not_yaml_is_named_before_the_server_is_asked(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_bytes(text)
    with pytest.raises(UpError, match=f"^{file}: not YAML .*; correct it$"):
        deploy.apply(file, {"PREFECT_API_URL": "http://127.0.0.1:9/api"}, tmp_path / "log")
