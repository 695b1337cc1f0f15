"""What holds for all of infra/: versions, and what the bucket and its role may do."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"


def pinned(package: str) -> str:
    """The version that constraints.txt pins."""
    text = (ROOT / "constraints.txt").read_text()
    return re.search(rf"^{package}==(\S+)", text, re.MULTILINE)[1]


def test_versions_are_the_same_everywhere():
    major, minor, _ = pinned("cuda-toolkit").split(".")
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    places = [path for path in (*INFRA.rglob("*"), *ROOT.glob("docs/*.md")) if path.is_file()]
    text = "\n".join(path.read_text() for path in places)
    text += (ROOT / "deployments" / "prefect.yaml").read_text()
    # torch's own index has no wheel for another CUDA with these NVIDIA libraries
    assert set(re.findall(r"TORCH_BACKEND[=:] ?(cu\w+)", text)) == {f"cu{major}{minor}"}
    assert set(re.findall(r"visionflows:([\d.]+)-(?:cpu|cuda)", text)) == {ours}
    assert set(re.findall(r"prefectTag: ([\d.]+)-", text)) == {pinned("prefect")}
    assert set(re.findall(r"prefect-version: (\S+)", text)) == {pinned("prefect")}


def test_the_bucket_is_versioned_encrypted_closed_and_the_role_may_not_do_everything():
    hcl2 = pytest.importorskip("hcl2", reason="python-hcl2 is not installed")
    text = (INFRA / "terraform" / "main.tf").read_text()
    kinds = {kind.strip('"') for block in hcl2.loads(text)["resource"] for kind in block}
    prefix = "aws_s3_bucket_"
    needed = ("versioning", "server_side_encryption_configuration", "public_access_block")
    assert {f"{prefix}{name}" for name in (*needed, "lifecycle_configuration")} <= kinds
    role = text[text.index('"aws_iam_policy_document" "worker"') :]
    assert '"s3:*"' not in role
    assert 'resources = ["*"]' not in role
