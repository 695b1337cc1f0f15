"""What is in infra/ is whole and consistent, as far as it shows without a container engine."""

import json
import re
from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.actions import WorkPoolCreate

INFRA = Path(__file__).parents[2] / "infra"
KUBERNETES = INFRA / "kubernetes"


def compose() -> dict:
    return yaml.safe_load((INFRA / "compose.yaml").read_text())


def test_every_service_is_pinned_and_what_it_waits_for_exists_and_says_it_is_healthy():
    services = compose()["services"]
    for name, service in services.items():
        assert re.search(r":[A-Z]*[.\d]*\d", service["image"]), name
        assert not service["image"].endswith(":latest"), name
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"], other


def test_every_secret_of_compose_is_required_and_named_in_the_example():
    text = (INFRA / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", text))
    example = (INFRA / "compose.env.example").read_text()
    assert used == set(re.findall(r"^([A-Z0-9_]+)=", example, re.MULTILINE))
    required = set(re.findall(r"\$\{([A-Z0-9_]+):\?", text))
    assert required == used - {"VISIONFLOWS_WEBHOOK"}


def test_only_the_ui_is_published_and_only_on_loopback():
    ports = {name: service.get("ports") for name, service in compose()["services"].items()}
    assert {name: port for name, port in ports.items() if port} == {
        "server": ["127.0.0.1:4200:4200"]
    }


def test_the_profiles_share_the_worker_and_the_gpu_one_asks_for_gpus():
    services = compose()["services"]
    cpu, gpu = services["worker"], services["worker-gpu"]
    assert cpu["profiles"] == ["cpu"]
    assert gpu["profiles"] == ["gpu"]
    assert cpu["environment"] == gpu["environment"]
    devices = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]
    assert gpu["build"]["args"]["TORCH_BACKEND"].startswith("cu")


def test_the_image_is_built_of_what_exists_and_does_not_run_as_root():
    lines = (INFRA / "Dockerfile").read_text().splitlines()
    for line in (line for line in lines if line.startswith("COPY ") and "--from" not in line):
        for source in line.split()[1:-1]:
            assert (INFRA.parent / source).exists(), source
    assert sum(line.startswith("FROM ") for line in lines) == 2
    user = next(index for index, line in enumerate(lines) if line.startswith("USER "))
    assert lines[user] == "USER 10001:10001"
    assert any(line.startswith("HEALTHCHECK ") for line in lines[user:])
    assert "curl" not in "".join(lines)


def test_prefect_takes_the_job_template_and_the_deployments_use_its_variables():
    template = json.loads((KUBERNETES / "base-job-template.json").read_text())
    WorkPoolCreate.model_validate(
        {"name": "k", "type": "kubernetes", "base_job_template": template}
    )
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert used == set(template["variables"]["properties"])
    deployments = (INFRA.parent / "deployments" / "prefect.yaml").read_text()
    asked = yaml.safe_load(deployments)["definitions"]["kubernetes"]["job_variables"]
    assert set(asked) <= set(template["variables"]["properties"])


def test_the_charts_share_their_secret_and_prefects_version():
    server, worker = (
        yaml.safe_load((KUBERNETES / f"{name}-values.yaml").read_text())
        for name in ("server", "worker")
    )
    api = worker["worker"]["selfHostedServerApiConfig"]
    assert api["basicAuth"]["existingSecret"] == server["server"]["basicAuth"]["existingSecret"]
    tags = (server["global"]["prefect"]["image"], worker["worker"]["image"])
    assert {tag["prefectTag"].split("-")[0] for tag in tags} == {"3.8.8"}


def test_the_network_policy_is_about_the_pods_of_runs():
    template = json.loads((KUBERNETES / "base-job-template.json").read_text())
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]
    kinds = {
        resource["kind"]: resource
        for resource in yaml.safe_load_all((KUBERNETES / "resources.yaml").read_text())
    }
    policy = kinds["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert policy["ingress"] == []
    claim = template["variables"]["properties"]["claim"]["default"]
    assert kinds["PersistentVolumeClaim"]["metadata"]["name"] == claim


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
