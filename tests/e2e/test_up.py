"""`visionflows up`: PostgreSQL, password, a server that already runs, Ctrl-C, deployments."""

import subprocess
import sys
from pathlib import Path

import httpx
from e2e_fixtures import fill
from serving import environment, served

pytest_plugins = ["e2e_fixtures"]
DEPLOYMENTS = Path(__file__).parents[2] / "deployments" / "prefect.yaml"


def test_on_postgresql_with_a_password_beyond_loopback(trained, postgres, tmp_path):
    options = ("--host", "0.0.0.0", "--database", postgres)

    fill(tmp_path / "inbox", 6)
    with served(tmp_path, trained.store, *options, password="no secret") as server:
        port = server.url.rpartition(":")[2]
        for auth in (None, ("admin", "wrong")):
            url = f"http://127.0.0.1:{port}/api"
            for path in ("/admin/version", "/csrf-token?client=x", "/flows/count"):
                assert httpx.get(url + path, auth=auth).status_code == 401
            changed = httpx.post(f"{url}/flows/filter", json={}, auth=auth)
            assert changed.status_code == 403  # no token: only a password gives one
        run = server.start("score", input="inbox", model="shapes", output="scores/a")
        server.wait(run, "Completed")
        family = server.pids("prefect")
        output = server.stop()
    assert output.endswith("stopped\n")
    assert "log in to the UI as admin:" in output
    assert "no secret" not in output
    assert family
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    assert not (tmp_path / "state/prefect.db").exists()  # everything is in PostgreSQL


def test_a_running_server_is_reported_and_state_is_kept(trained, tmp_path):
    with served(tmp_path, trained.store) as server:
        port, state = server.url.rpartition(":")[2], tmp_path / "state"
        output = up(tmp_path, "--port", port, "--state", tmp_path / "other")
        assert f"127.0.0.1:{port}: a Prefect server is running there already" in output
        output = up(tmp_path, "--port", "0", "--state", state)
        assert f"{state}: visionflows is up with this state already" in output
        assert server.process.poll() is None
        before = snapshot(server.api)
        # As by hand on another server; a third time after a restart.
        apply(server)
        assert snapshot(server.api) == before
        for rule in server.api.post("/automations/filter", json={}).json():
            server.api.patch(f"/automations/{rule['id']}", json={"enabled": False})
        server.stop()
    with served(tmp_path, trained.store) as server:
        rules = server.api.post("/automations/filter", json={}).json()
        assert [rule["enabled"] for rule in rules] == [False] * 4  # unchanged
        for rule in rules:
            server.api.patch(f"/automations/{rule['id']}", json={"enabled": True})
        assert snapshot(server.api) == before
        assert len(before["deployments"]) == 4
        assert {limit["name"] for limit in before["v2/concurrency_limits"]} == {"visionflows-gpu"}


def up(folder: Path, *options) -> str:
    """The output of a second `up`, which must exit."""
    command = [sys.executable, "-m", "visionflows.cli", "up", *map(str, options)]
    ended = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 1
    return ended.stderr


def apply(server) -> None:
    env = environment() | {"PREFECT_API_URL": f"{server.url}/api"}
    env["PREFECT_HOME"] = str(server.folder / "home")
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    ended = subprocess.run(
        command, cwd=DEPLOYMENTS.parent, env=env, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def snapshot(api: httpx.Client) -> dict[str, list]:
    """Everything that the file creates on a server, with IDs but without update times.

    A worker fills in the template of its pool.
    """
    kinds = ("deployments", "automations", "v2/concurrency_limits", "work_pools")
    found = {kind: api.post(f"/{kind}/filter", json={}).json() for kind in kinds}
    changing = ("updated", "last_polled", "status", "active_slots", "base_job_template")
    return _without(found, changing)


def _without(value, keys: tuple[str, ...]):
    if isinstance(value, dict):
        return {key: _without(item, keys) for key, item in value.items() if key not in keys}
    if isinstance(value, list):
        items = [_without(item, keys) for item in value]
        # The expected events of a rule are an unordered set.
        return sorted(items) if all(isinstance(item, str) for item in items) else items
    return value
