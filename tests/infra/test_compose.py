"""compose.yaml and its image, as far as they can be tested without a container engine."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from prefect.server.api.server import create_ui_app
from prefect.settings import temporary_settings
from unprivileged import reachable_folder, unprivileged

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"


def compose() -> dict:
    return yaml.safe_load((INFRA / "compose.yaml").read_text())


def test_every_service_is_pinned_and_waits_for_services_with_health_checks():
    services = compose()["services"]
    for name, service in services.items():
        assert re.search(r":[A-Z]*[.\d]*\d", service["image"]), name
        assert not service["image"].endswith(":latest"), name
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"], other


def test_every_secret_is_required_and_named_in_the_example():
    text = (INFRA / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", text))
    example = (INFRA / "compose.env.example").read_text()
    assert used == set(re.findall(r"^([A-Z0-9_]+)=", example, re.MULTILINE))
    required = set(re.findall(r"\$\{([A-Z0-9_]+):\?", text))
    assert required == used - {"VISIONFLOWS_WEBHOOK"}


def test_git_ignores_the_passwords_but_not_the_example():
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    for name, ignored in ((".env", 0), ("compose.env.example", 1)):
        asked = ["git", "check-ignore", "--no-index", "--quiet", f"infra/{name}"]
        assert subprocess.run(asked, cwd=ROOT, check=False).returncode == ignored, name


def test_the_user_of_the_image_can_serve_the_ui():
    """By default Prefect copies its pages next to itself, where only root may write."""
    env = compose()["services"]["server"]["environment"]
    where = Path(env["PREFECT_SERVER_UI_STATIC_DIRECTORY"])
    assert f"chmod 0777 {where.parent}\n" in (INFRA / "Dockerfile").read_text().replace(" \\", "")
    with reachable_folder() as home:
        result = {"server.ui.static_directory": str(home / where.name)}
        with temporary_settings(result):
            assert "<html" in unprivileged(
                lambda: TestClient(create_ui_app(ephemeral=False)).get("/").text
            )


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
    assert services["worker-score"]["environment"] == services["worker-score-gpu"]["environment"]
    assert services["worker-score"]["command"] == services["worker-score-gpu"]["command"]
    devices = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]
    assert cpu["build"]["args"]["TORCH_BACKEND"] == "cpu"
    assert gpu["build"]["args"]["TORCH_BACKEND"].startswith("cu")


def test_each_worker_has_its_own_permissions_and_work_queue():
    """Only the service that creates users has the root password; scoring has its own worker."""
    services = compose()["services"]
    for name, service in services.items():
        knows = "S3_ROOT_PASSWORD" in str(service.get("environment"))
        assert knows == (name in ("s3", "s3-users")), name
    queues = {
        one["name"]: one["work_pool"].get("work_queue_name", "default")
        for one in yaml.safe_load((ROOT / "deployments/prefect.yaml").read_text())["deployments"]
    }
    for worker, role, queue in (("worker", "train", "default"), ("worker-score", "score", "score")):
        assert services[worker]["environment"]["AWS_ACCESS_KEY_ID"] == role
        assert services[worker]["command"][-2:] == ["--work-queue", queue]
    assert queues == {
        "train": "default",
        "score": "score",
        "retrain": "default",
        "notify": "default",
    }


def test_the_image_is_built_from_existing_files_and_does_not_run_as_root():
    lines = (INFRA / "Dockerfile").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in (line for line in lines if line.startswith("COPY ") and "--from" not in line):
        for source in line.split()[1:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source
    stages = [line.split() for line in lines if line.startswith("FROM ")]
    names = {words[-1] for words in stages if "AS" in words}
    assert names == {"source", "small", "whole", "worker", "scoring"}
    assert all(words[1] in {"${PYTHON_IMAGE}", *names} for words in stages)
    assert stages[-1] == ["FROM", "worker"]  # the default build target
    assert any(line.strip() == "HOME=/home/visionflows \\" for line in lines)
    assert any("chmod 0777 /home/visionflows" in line for line in lines)
    user = next(index for index, line in enumerate(lines) if line.startswith("USER "))
    assert lines[user] == "USER 10001:10001"
    assert any(line.startswith("HEALTHCHECK ") for line in lines[user:])
    assert "curl" not in "".join(lines)


def test_the_image_has_the_documented_extras():
    """Every extra for users, and none for developers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    small, whole = (
        set(extras.split(","))
        for extras in re.findall(r"'\.\[(.*?)\]'", (INFRA / "Dockerfile").read_text())
    )
    users = project["optional-dependencies"].keys() - {"docs", "test", "dev"}
    assert whole | {"train"} == users  # timm includes train
    assert small == users - {"train", "timm", "int8"}
