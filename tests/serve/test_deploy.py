"""What applying a file resets, as it is told; and how much the server remembers of it."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL

from visionflows.serve import deploy
from visionflows.serve.api import api
from visionflows.serve.deploy import _prints, _replaced, resets
from visionflows.serve.settings import DEPLOYMENTS, UpError

FILE = {"score/score": {"parameters": {"model": "pets"}, "schedules": ["2"], "paused": False}}
CHANGED = {"score/score": {"parameters": {"model": "cats"}, "schedules": ["4"], "paused": False}}
NEW = {"score/score": {"parameters": {"model": "cats"}, "schedules": ["3"], "paused": False}}


def test_only_what_people_had_changed_is_told():
    fields = _prints(FILE)
    assert list(resets(CHANGED, FILE, fields)) == ["score/score: parameters, schedules"]
    assert list(resets(CHANGED, NEW, fields)) == ["score/score: schedules"]  # cats is in the file
    assert list(resets(FILE, NEW, fields)) == []  # the file's own change is no reset
    assert list(resets(CHANGED, CHANGED, fields)) == []


def test_where_nothing_is_remembered_all_that_becomes_different_is_told():
    assert list(resets(CHANGED, FILE, None)) == ["score/score: parameters, schedules"]
    assert list(resets({}, FILE, None)) == []


def test_what_had_been_deleted_and_is_made_again_is_told():
    told = list(resets({}, FILE, _prints(FILE)))
    assert told == ["score/score: there again; it had been deleted"]


def test_places_are_replaced_as_whole_texts_however_deep():
    value = {"env": {"A": "/old"}, "list": ["/old", "/old/more", 5]}
    assert _replaced(value, ["/old"], ["/new"]) == {
        "env": {"A": "/new"},
        "list": ["/new", "/old/more", 5],
    }


@pytest.fixture
def environment(prefect_server, tmp_path) -> dict[str, str]:
    env = {"PREFECT_API_URL": PREFECT_API_URL.value(), "VISIONFLOWS_STORE": "/data/store"}
    env |= {"VISIONFLOWS_FOLDER": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    return {**os.environ, **env}


@pytest.fixture
def server(environment) -> Iterator[httpx.Client]:
    """The API of a server that remembers nothing yet."""
    with api(environment, timeout=60) as client:
        client.delete(f"/variables/name/{deploy._MEMORY}")
        yield client
        client.delete(f"/variables/name/{deploy._MEMORY}")


@contextlib.contextmanager
def theirs(server, count: int) -> Iterator[None]:
    """So many deployments of somebody else."""
    flow = server.post("/flows/", json={"name": f"theirs-{uuid.uuid4()}"}).json()["id"]
    ids = []
    for number in range(count):
        new = {"name": f"theirs-{number}", "flow_id": flow, "parameters": {"number": number}}
        ids.append(server.post("/deployments/", json=new).raise_for_status().json()["id"])
    yield
    for one in ids:
        server.delete(f"/deployments/{one}").raise_for_status()


def test_what_others_have_deployed_is_not_remembered_however_much_it_is(
    environment, server, tmp_path, caplog
):
    with theirs(server, 20):
        deploy.apply(DEPLOYMENTS, environment, tmp_path / "log")
        known = deploy._remembered(server)["fields"]
    assert {name for name in known if "/" in name} == {
        *("train/train", "score/score", "retrain/retrain", "notify/notify")
    }
    assert {"limit visionflows-gpu", "rule visionflows: score an announced batch"} <= known.keys()
    (score,) = (one for one in deploy._all(server, "deployments") if one["name"] == "score")
    changed = {"parameters": {**score["parameters"], "input": "elsewhere"}}
    server.patch(f"/deployments/{score['id']}", json=changed).raise_for_status()
    again = tmp_path / "prefect.yaml"
    again.write_text(DEPLOYMENTS.read_text(encoding="utf-8") + "\n# another file\n")
    caplog.clear()
    with caplog.at_level("WARNING", logger="visionflows.up"):
        deploy.apply(again, environment, tmp_path / "log")
    told = [line for line in caplog.messages if line.startswith("reset")]
    assert told == ["reset as the file has it: score/score: parameters"]


@pytest.mark.parametrize("count, kept", [(40, True), (400, False)])
def test_a_file_may_have_any_number_of_deployments(server, count, kept):
    fields = dict.fromkeys(deploy._FIELDS)
    prints = _prints({f"my-flow/deployment-{number}": fields for number in range(count)})
    applied = {"file": "0" * 64, "version": "0.1.0", "fields": prints, "places": ["a", "b"]}
    for _ in range(2):  # made, and changed
        deploy._remember(server, applied)
    found = deploy._remembered(server)
    assert found == (applied if kept else {key: applied[key] for key in applied if key != "fields"})


@pytest.mark.parametrize("text", [b"deployments: [", b"name: \xff"])
def test_a_file_that_is_no_yaml_is_named_before_anything_is_asked(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_bytes(text)
    with pytest.raises(UpError, match=f"^{file}: no YAML .*; correct it$"):
        deploy.apply(file, {"PREFECT_API_URL": "http://127.0.0.1:9/api"}, tmp_path / "log")


@pytest.mark.parametrize("text", ["", "7", "text", "[a, {name: b}]"])
def test_names_are_found_wherever_they_are(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    assert deploy._names(tmp_path / "mine.yaml") == ({"b"} if "name" in text else set())
