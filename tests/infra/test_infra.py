"""All of infra/: versions, and the permissions of the bucket and its role."""

import contextlib
import re
import tomllib
from pathlib import Path

import httpx
import pytest
from s3_server import environment, moto

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"


def pinned(package: str) -> str:
    """The version that constraints.txt pins."""
    text = (ROOT / "constraints.txt").read_text()
    return re.search(rf"^{package}==(\S+)", text, re.MULTILINE)[1]


def test_versions_are_the_same_everywhere():
    major, minor, _ = pinned("cuda-toolkit").split(".")
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    locations = [path for path in (*INFRA.rglob("*"), *ROOT.glob("docs/*.md")) if path.is_file()]
    text = "\n".join(path.read_text() for path in locations)
    text += (ROOT / "deployments" / "prefect.yaml").read_text()
    # torch's own index has no wheel for another CUDA with these NVIDIA libraries
    assert set(re.findall(r"TORCH_BACKEND[=:] ?(cu\w+)", text)) == {f"cu{major}{minor}"}
    assert set(re.findall(r"visionflows:([\d.]+)-(?:cpu|cuda)", text)) == {ours}
    assert set(re.findall(r"prefectTag: ([\d.]+)-", text)) == {pinned("prefect")}
    assert set(re.findall(r"prefect-version: (\S+)", text)) == {pinned("prefect")}


def test_the_bucket_is_versioned_encrypted_and_private_and_the_role_is_restricted():
    hcl2 = pytest.importorskip("hcl2", reason="python-hcl2 is not installed")
    text = (INFRA / "terraform" / "main.tf").read_text()
    kinds = {kind.strip('"') for block in hcl2.loads(text)["resource"] for kind in block}
    prefix = "aws_s3_bucket_"
    needed = ("versioning", "server_side_encryption_configuration", "public_access_block")
    assert {f"{prefix}{name}" for name in (*needed, "lifecycle_configuration")} <= kinds
    assert '"s3:*"' not in text.replace('actions   = ["s3:*"]', "", 1)  # of what is denied
    assert 'file("${path.module}/../s3/${role}.json")' in text


SCORES = {"store/scores/x/run.json", "scores/night/.lock"}
MODELS = {"store/models/pets/1/model.json", "store/datasets/a/b.png"}
KEYS = SCORES | MODELS | {"inbox/a.jpg"}


@pytest.mark.parametrize("role", ["train", "score"])
def test_a_role_can_read_all_and_write_only_its_own_results(tmp_path, role):
    """On an S3 server with policies: the scoring role cannot write or delete a model."""
    import boto3
    from botocore.exceptions import ClientError

    with moto(tmp_path / "moto.log") as url:
        root = environment(url)
        options = {"endpoint_url": url, "region_name": "us-east-1"}
        keys = {"aws_access_key_id": root["AWS_ACCESS_KEY_ID"]}
        keys["aws_secret_access_key"] = root["AWS_SECRET_ACCESS_KEY"]
        s3, iam = (boto3.client(kind, **options, **keys) for kind in ("s3", "iam"))
        s3.create_bucket(Bucket="visionflows")
        for key in KEYS:
            s3.put_object(Bucket="visionflows", Key=key, Body=b"as it was")
        iam.create_user(UserName=role)
        policy = (INFRA / "s3" / f"{role}.json").read_text()
        iam.put_user_policy(UserName=role, PolicyName="visionflows", PolicyDocument=policy)
        made = iam.create_access_key(UserName=role)["AccessKey"]
        obey(url)
        mine = boto3.client(
            "s3",
            **options,
            aws_access_key_id=made["AccessKeyId"],
            aws_secret_access_key=made["SecretAccessKey"],
        )
        assert len(mine.list_objects_v2(Bucket="visionflows")["Contents"]) == len(KEYS)
        written = set()
        for key in KEYS:
            assert mine.get_object(Bucket="visionflows", Key=key)["Body"].read() == b"as it was"
            with contextlib.suppress(ClientError):  # which says AccessDenied: see below
                mine.put_object(Bucket="visionflows", Key=key, Body=b"changed")
                mine.delete_object(Bucket="visionflows", Key=key)
                written.add(key)
        with pytest.raises(ClientError, match="AccessDenied"):
            mine.delete_object(Bucket="visionflows", Key="inbox/a.jpg")
        assert written == (SCORES if role == "score" else SCORES | MODELS)


def obey(url: str) -> None:
    """Enable permission checks on the server."""
    httpx.post(f"{url}/moto-api/reset-auth", content="0").raise_for_status()
