"""What a deployments file no longer has is removed; what its deployments need is restored."""

import os

import pytest
from prefect.settings import PREFECT_API_URL

from visionflows.serve import deploy
from visionflows.serve.api import api_client
from visionflows.serve.settings import DEPLOYMENTS

LIMIT = "/v2/concurrency_limits/visionflows-gpu"


@pytest.mark.usefixtures("prefect_server")
def test_the_server_has_what_the_file_has(tmp_path):
    env = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "PYTHONPATH": os.getcwd()}
    file, log = tmp_path / "my.yaml", tmp_path / "log"
    text = DEPLOYMENTS.read_text(encoding="utf-8")
    with api_client(env, timeout=60) as server:
        file.write_text(text)
        deploy.apply(file, env, log)
        file.write_text(renamed(text))
        add_schedule(server, "score")
        deploy.apply(file, env, log)
        assert names(server) == ["night", "notify", "score"]
        assert slugs(server, "score") == ["mine", "night"]
        assert "visionflows: score an announced batch" not in rules(server)
        assert server.get(LIMIT).json()["limit"] == 1
        kept = break_it(server)
        deploy.apply(file, env, log)
        assert (names(server), seen(server, "score")) == (["night", "notify", "score"], kept)
        for name, queue in (("score", "score"), ("night", "default"), ("notify", "default")):
            found = find(server, name)
            assert (found["work_pool_name"], found["work_queue_name"]) == ("visionflows", queue)
        assert server.get(LIMIT).json()["limit"] == 1
        for name in ("score", "night"):
            assert find(server, name)["global_concurrency_limit"]["name"] == "visionflows-gpu"
        (run,) = waiting(server, "score")
        assert (run["work_pool_name"], run["work_queue_name"]) == ("visionflows", "score")


def renamed(text: str) -> str:
    """A slug and a deployment are renamed; a rule and a deployment are taken out."""
    start, end = text.index('        - name: "visionflows: score an'), text.index("pull: []")
    rules = text[start:end]
    third = rules[rules.index('        - name: "visionflows: report') :]
    text = text.replace(rules, third).replace("slug: nightly", "slug: night")
    start, end = text.index("  - name: retrain"), text.index("  - name: notify")
    text = text.replace(text[start:end], "").replace(", retrain/retrain]", "]")
    return text.replace("- name: train\n", "- name: night\n").replace("train/train", "train/night")


def break_it(server) -> list:
    """Delete deployment, limit, queue and pool as in the UI; what people chose is returned."""
    score = find(server, "score")
    path = f"/deployments/{score['id']}"
    parameters = {**score["parameters"], "model": "mine"}
    server.patch(path, json={"parameters": parameters, "paused": True}).raise_for_status()
    late = {"parameters": {"output": "late"}, "state": {"type": "SCHEDULED"}}
    server.post(f"{path}/create_flow_run", json=late).raise_for_status()
    server.delete(f"/deployments/{find(server, 'night')['id']}").raise_for_status()
    assert server.get(LIMIT).status_code == 404  # it went with the deployment
    server.delete("/work_pools/visionflows").raise_for_status()
    return seen(server, "score")


def add_schedule(server, name: str) -> None:
    path = f"/deployments/{find(server, name)['id']}/schedules"
    body = [{"schedule": {"cron": "0 5 * * *"}, "active": False, "slug": "mine"}]
    server.post(path, json=body).raise_for_status()


def find(server, name: str) -> dict:
    (found,) = [one for one in ours(server) if one["name"] == name]
    return found


def ours(server) -> list[dict]:
    only = {"deployments": {"tags": {"all_": ["visionflows"]}}}
    found = server.post("/deployments/filter", json=only).raise_for_status().json()
    return [one for one in found if (one["entrypoint"] or "").startswith("flows.")]


def names(server) -> list[str]:
    return sorted(one["name"] for one in ours(server))


def slugs(server, name: str) -> list:
    return sorted(one["slug"] for one in find(server, name)["schedules"])


def rules(server) -> list[str]:
    return [one["name"] for one in server.post("/automations/filter", json={}).json()]


def seen(server, name: str) -> list:
    found = find(server, name)
    schedules = [[one["slug"], one["schedule"], one["active"]] for one in found["schedules"]]
    return [found["parameters"], found["paused"], sorted(schedules, key=str)]


def waiting(server, name: str) -> list[dict]:
    only = {"deployments": {"name": {"any_": [name]}}}
    found = server.post("/flow_runs/filter", json=only).raise_for_status().json()
    return [one for one in found if one["parameters"].get("output") == "late"]
