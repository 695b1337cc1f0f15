"""infra/kubernetes and the work pools of prefect.yaml, as Prefect's own workers read them."""

import asyncio
import http.server
import json
import re
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import Flow, FlowRun

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "infra" / "kubernetes"


def template() -> dict:
    return json.loads((KUBERNETES / "base-job-template.json").read_text())


def asked(pool: str) -> dict:
    """The job variables that a deployment of prefect.yaml gives its work pool."""
    text = (ROOT / "deployments" / "prefect.yaml").read_text()
    return yaml.safe_load(text)["definitions"][pool]["job_variables"]


def resources() -> dict[str, dict]:
    documents = yaml.safe_load_all((KUBERNETES / "resources.yaml").read_text())
    return {resource["kind"]: resource for resource in documents}


def prepared(configuration: type, base: dict, variables: dict):
    """The job of a run, created by the worker from the template and the job variables."""
    from prefect.client.orchestration import PrefectClient

    # Used only for blocks; the template has none.
    nobody = PrefectClient("http://127.0.0.1:1/api")
    made = configuration.from_template_and_values(base, variables, client=nobody)
    job, flow = asyncio.run(made), Flow(id=uuid.uuid4(), name="score")
    job.prepare_for_flow_run(FlowRun(id=uuid.uuid4(), flow_id=flow.id, name="fox"), None, flow)
    return job


@pytest.fixture
def pod() -> dict:
    """The pod of a run, created by Prefect's Kubernetes worker."""
    worker = pytest.importorskip(
        "prefect_kubernetes.worker", reason="prefect-kubernetes is not installed"
    )
    job = prepared(worker.KubernetesWorkerJobConfiguration, template(), asked("kubernetes"))
    return job.job_manifest["spec"]["template"]


def test_the_worker_makes_a_pod_with_gpu_shared_memory_store_and_secret(pod):
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == asked("kubernetes")["gpus"]
    shm = next(one for one in pod["spec"]["volumes"] if one["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": asked("kubernetes")["shm_size"]}
    env = {one["name"]: one["value"] for one in container["env"]}
    assert env["VISIONFLOWS_STORE"] == "/data/store"
    assert "PREFECT__FLOW_RUN_ID" in env
    assert container["envFrom"][0]["secretRef"]["name"] == "visionflows-env"
    assert env["PYTHONSAFEPATH"] == "1"
    # Prefect's own command would copy the whole claim into a temporary folder, and work there.
    assert container["args"] == asked("kubernetes")["command"].split()


def test_no_password_is_in_the_manifest_sent_to_the_cluster(monkeypatch, cluster):
    """Prefect's worker, with the environment of worker-values.yaml, creates a Job over HTTP."""
    worker = pytest.importorskip(
        "prefect_kubernetes.worker", reason="prefect-kubernetes is not installed"
    )
    from kubernetes_asyncio.client import ApiClient, Configuration
    from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

    values = yaml.safe_load((KUBERNETES / "worker-values.yaml").read_text())["worker"]
    for one in values["extraEnvVars"]:
        monkeypatch.setenv(one["name"], one["value"])
    url, came = cluster
    with temporary_settings({PREFECT_API_AUTH_STRING: "admin:top-secret"}):
        base = template()
        job = prepared(worker.KubernetesWorkerJobConfiguration, base, asked("kubernetes"))

    async def create() -> None:
        async with ApiClient(Configuration(host=url)) as client:
            await worker.KubernetesWorker("visionflows-kubernetes")._create_job(job, client)

    asyncio.run(create())
    (manifest,) = came
    env = {one["name"]: one for one in containers_of(manifest)[0]["env"]}
    secret = values["selfHostedServerApiConfig"]["basicAuth"]["existingSecret"]
    reference = {"secretKeyRef": {"name": secret, "key": "auth-string"}}
    assert env["PREFECT_API_AUTH_STRING"]["valueFrom"] == reference
    assert "top-secret" not in json.dumps(manifest)


def containers_of(job: dict) -> list[dict]:
    return job["spec"]["template"]["spec"]["containers"]


@pytest.fixture
def cluster() -> Iterator[tuple[str, list[dict]]]:
    """The parts of a cluster's API for a Job: its URL, and the received requests."""
    came: list[dict] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(came[-1]).encode())

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", came
        server.shutdown()


def test_scoring_runs_with_a_separate_account_and_secret():
    scoring, others = asked("kubernetes_score"), asked("kubernetes")
    accounts = {
        one["metadata"]["name"]
        for one in yaml.safe_load_all((KUBERNETES / "resources.yaml").read_text())
        if one["kind"] == "ServiceAccount"
    }
    assert accounts == {"visionflows", scoring["service_account_name"]}
    assert "service_account_name" not in others  # from the template
    assert scoring["secret"] != template()["variables"]["properties"]["secret"]["default"]
    assert {key: scoring[key] for key in others} == others


def test_notify_asks_for_no_gpu_and_little_memory():
    worker = pytest.importorskip(
        "prefect_kubernetes.worker", reason="prefect-kubernetes is not installed"
    )
    variables = asked("kubernetes_notify")
    job = prepared(worker.KubernetesWorkerJobConfiguration, template(), variables).job_manifest
    (container,) = containers_of(job)
    assert container["resources"]["limits"] == {"memory": "1Gi", "nvidia.com/gpu": 0}
    assert container["resources"]["requests"] == {"memory": "1Gi", "cpu": "250m"}
    assert container["args"] == asked("kubernetes")["command"].split()
    assert asked("docker_notify")["container_create_kwargs"] == {}
    assert asked("docker_notify").keys() == asked("docker").keys()
    text = (ROOT / "deployments/prefect.yaml").read_text()
    assert "*docker_notify, or *kubernetes_notify" in text[text.index("- name: notify\n") :]


def test_a_run_can_connect_to_the_ray_head_with_kuberays_labels():
    (rule,) = (
        one
        for one in resources()["NetworkPolicy"]["spec"]["egress"]
        if {"protocol": "TCP", "port": 10001} in one["ports"]
    )
    assert rule["to"] == [
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {"ray.io/node-type": "head"}}}
    ]


def test_the_network_policy_selects_the_pods_of_runs(pod):
    """Prefect's worker replaces labels of the template, also app.kubernetes.io/name."""
    policy = resources()["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert policy["ingress"] == []


def test_everything_the_pod_refers_to_is_in_the_resources(pod):
    claim = next(one for one in pod["spec"]["volumes"] if one["name"] == "data")
    name = claim["persistentVolumeClaim"]["claimName"]
    assert resources()["PersistentVolumeClaim"]["metadata"]["name"] == name
    accounts = (KUBERNETES / "resources.yaml").read_text()
    assert f"name: {pod['spec']['serviceAccountName']}\n" in accounts


def test_prefect_takes_the_job_template_and_the_deployments_use_its_variables():
    base = template()
    WorkPoolCreate.model_validate({"name": "k", "type": "kubernetes", "base_job_template": base})
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(base["job_configuration"])))
    assert used == set(base["variables"]["properties"])
    assert set(asked("kubernetes")) <= set(base["variables"]["properties"])


def test_the_docker_worker_gives_a_run_gpus_and_shared_memory():
    worker = pytest.importorskip("prefect_docker.worker", reason="prefect-docker is not installed")
    from docker.models.containers import _create_container_args

    base = worker.DockerWorker.get_default_base_job_template()
    assert set(asked("docker")) <= set(base["variables"]["properties"])
    job = prepared(worker.DockerWorkerJobConfiguration, base, asked("docker"))
    made = {"image": job.image, "volumes": job.volumes, **job.container_create_kwargs}
    host = _create_container_args({**made, "version": "1.45"})["host_config"]
    assert host["ShmSize"] == 8 << 30
    assert host["DeviceRequests"][0]["Capabilities"] == [["gpu"]]
    assert host["Binds"] == ["visionflows:/data"]
    assert job.env["VISIONFLOWS_STORE"].startswith("/data/")
    assert job.env["PYTHONSAFEPATH"] == "1"
    assert job.command == asked("docker")["command"] == asked("kubernetes")["command"]


def test_the_charts_share_their_secret():
    server, worker = (
        yaml.safe_load((KUBERNETES / f"{name}-values.yaml").read_text())
        for name in ("server", "worker")
    )
    api = worker["worker"]["selfHostedServerApiConfig"]
    assert api["basicAuth"]["existingSecret"] == server["server"]["basicAuth"]["existingSecret"]
