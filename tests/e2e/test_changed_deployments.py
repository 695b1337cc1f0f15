"""Changes made in the UI stay when `up` starts again, until the file changes."""

import datetime
import shutil
from pathlib import Path

import pytest
from e2e_fixtures import fill
from serving import Served, served

pytest_plugins = ["e2e_fixtures"]
DEPLOYMENTS = Path(__file__).parents[2] / "deployments" / "prefect.yaml"


@pytest.mark.timeout(900)
def test_changes_stay_until_the_file_changes_and_missed_runs_run_once(trained, tmp_path):
    mine = tmp_path / "my" / "my.yaml"
    mine.parent.mkdir()
    shutil.copy(DEPLOYMENTS, mine)
    fill(tmp_path / "inbox", 6)
    options = ("--deployments", str(mine))
    # An unavailable proxy must not affect loopback connections.
    away = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    with served(tmp_path, trained.store, *options, **away, NO_PROXY="", no_proxy="") as server:
        change(server)
        changed = seen(server)
        missed = [missed_run(server, days) for days in (3, 2, 1)]
        other = missed_run(server, 1, output="scores/other")
        server.stop()
    with served(tmp_path, trained.store, *options) as server:
        assert seen(server) == changed
        assert [server.run(run)["state"]["name"] for run in missed[:2]] == ["Missed", "Missed"]
        server.wait(missed[2], "Completed")
        server.wait(other, "Completed")
        output = server.stop()
        assert "is unchanged; changes made in the UI stay" in output
        assert "2 missed run(s) skipped" in output
    mine.write_text(mine.read_text().replace('"0 2 * * *"', '"0 3 * * *"'))
    elsewhere = tmp_path / "elsewhere"
    state = ("--state", str(tmp_path / "state"))
    with served(elsewhere, trained.store, *options, *state) as server:
        assert server.deployment("score")["schedules"][0]["schedule"]["cron"] == "0 3 * * *"
        assert server.deployment("score")["parameters"]["model"] == "pets@production"
        assert not (elsewhere / "scores").exists()
        fill(elsewhere / "inbox", 3)
        run = server.start("score", input="inbox", model="shapes", output="scores/here")
        server.wait(run, "Completed")  # relative paths start in the folder of this `up`
        assert (elsewhere / "scores/here/predictions.csv").exists()
        assert "it overrides changes made in the UI" in server.stop()


def change(server: Served) -> None:
    """A cron, a parameter, a pause and the limit, as the UI changes them."""
    score = server.deployment("score")
    path = f"/deployments/{score['id']}"
    schedule = {"schedule": {"cron": "0 4 * * *", "timezone": "Europe/Berlin"}, "active": False}
    ask(server, "PATCH", f"{path}/schedules/{score['schedules'][0]['id']}", schedule)
    parameters = {**score["parameters"], "model": "shapes"}
    ask(server, "PATCH", path, {"parameters": parameters, "paused": True})
    ask(server, "PATCH", "/v2/concurrency_limits/visionflows-gpu", {"limit": 2})


def seen(server: Served) -> list[object]:
    score = server.deployment("score")
    limit = ask(server, "GET", "/v2/concurrency_limits/visionflows-gpu")["limit"]
    kept = ("schedule", "active")
    schedules = [{key: one[key] for key in kept} for one in score["schedules"]]
    return [score["parameters"], score["paused"], schedules, limit]


def missed_run(server: Served, days: int, **parameters: str) -> str:
    """Create a run as the scheduler does, `days` days ago."""
    when = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    details = {"scheduled_time": when.isoformat()}
    body = {
        "parameters": parameters,
        "state": {"type": "SCHEDULED", "name": "Scheduled", "state_details": details},
        "tags": ["auto-scheduled"],
    }
    deployment = server.deployment("score")["id"]
    return ask(server, "POST", f"/deployments/{deployment}/create_flow_run", body)["id"]


def ask(server: Served, method: str, path: str, body: dict | None = None) -> dict:
    answer = server.api.request(method, path, json=body)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else {}
