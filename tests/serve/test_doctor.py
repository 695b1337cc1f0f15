"""The checks of the doctor, and the webhook of failed runs."""

import http.server
import json
import threading
from types import SimpleNamespace

import prefect.events
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.retrain import retrain
from flows.score import score
from visionflows.errors import DeniedError, ServerError, VisionflowsError
from visionflows.orchestration import notifications
from visionflows.serve import doctor
from visionflows.storage.local import LocalStorage


def test_doctor_of_this_machine(tmp_path):
    found = {finding.subject: finding for finding in doctor.examine([str(tmp_path)])}
    assert found["Python"].status == "ok"
    assert "openvino " in found["libraries"].message
    assert "GiB memory" in found["machine"].message
    assert found["GPU"].status == "ok"
    assert found[str(tmp_path)].message.startswith("writable")
    assert all(finding.fix for finding in found.values() if finding.status != "ok")


def test_a_library_of_a_wrong_version_is_named_with_what_to_install(monkeypatch):
    asked = ["torch>=99", "no-such-library", "numpy", "timm; extra == 'timm'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: asked)
    wrong = [finding for finding in doctor.check_versions() if finding.status == "FAIL"]
    assert [finding.fix for finding in wrong] == [
        "pip install 'torch>=99'",
        "pip install 'no-such-library'",
    ]


def test_an_unwritable_location_fails(tmp_path):
    (tmp_path / "file").touch()
    finding = next(doctor.check_location(str(tmp_path / "file" / "store")))
    assert finding.status == "FAIL"
    assert finding.fix


def test_a_store_that_can_only_be_read_is_a_note(tmp_path, monkeypatch, bucket, s3):
    """Scoring needs no more."""

    def refuse(*args):
        raise DeniedError("this user may not write there; name a folder that it may write")

    monkeypatch.setattr(LocalStorage, "check_writable", refuse)
    (finding,) = doctor.check_location(str(tmp_path))
    assert (finding.status, bool(finding.fix)) == ("note", True)
    monkeypatch.setattr(type(bucket), "write", refuse)
    monkeypatch.setattr(type(bucket), "remove", refuse)
    found = [*doctor.check_location(str(bucket))]
    assert [finding.status for finding in found] == ["ok", "note", "ok", "note"]


def test_an_unavailable_server_fails_with_a_fix():
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        finding = doctor.check_server()
    assert finding.status == "FAIL"
    assert "http://127.0.0.1:9/api cannot be reached" in finding.message
    assert "visionflows up" in finding.fix


def test_without_a_server_there_is_a_note():
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        finding = doctor.check_server()
    assert (finding.status, finding.message) == ("note", "none is set; commands work without one")
    assert "visionflows up" in finding.fix


def test_unwritable_folders_fail_with_a_fix(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "file" / "home"))
    finding = doctor.check_folder_access()
    assert finding.status == "FAIL"
    assert f"PREFECT_HOME {tmp_path}/file/home: cannot be written" in finding.message
    assert finding.fix == "set PREFECT_HOME to a writable folder"


@pytest.fixture
def webhook():
    """A URL that accepts POSTs, and the list of received ones."""
    came = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", came
        server.shutdown()


def failed(parent: str | None = None):
    run = SimpleNamespace(id="1f", name="score inbox with pets", parent_task_run_id=parent)
    return SimpleNamespace(name="score"), run, SimpleNamespace(name="Crashed", message="it died")


def test_the_webhook_is_called_once_per_run_and_not_for_subflows(monkeypatch, webhook):
    url, came = webhook
    events = []
    monkeypatch.setattr(prefect.events, "emit_event", lambda event, **e: events.append((event, e)))
    monkeypatch.setenv("VISIONFLOWS_WEBHOOK", url)
    notifications.report_failure(*failed())
    notifications.report_failure(*failed(parent="task"))
    assert [words["text"] for words in came] == ["score inbox with pets: Crashed: it died"]
    assert came[0]["run_id"] == "1f"
    assert [name for name, _ in events] == ["visionflows.run.failed"]


@pytest.mark.parametrize("command", [score, retrain])
def test_the_webhook_is_called_for_a_run_without_a_server(monkeypatch, webhook, tmp_path, command):
    """Once, also if the error is of `train`, which `retrain` calls."""
    url, came = webhook
    monkeypatch.setenv("VISIONFLOWS_WEBHOOK", url)
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(VisionflowsError) as caught,
    ):
        command(str(tmp_path / "none"), "no/name", store=str(tmp_path))
    text = f"{command.__name__}: Failed: {caught.value}"
    assert [words["text"] for words in came] == [text]


def test_the_webhook_is_called_if_the_server_is_away(monkeypatch, webhook, tmp_path):
    url, came = webhook
    monkeypatch.setenv("VISIONFLOWS_WEBHOOK", url)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(ServerError),
    ):
        score(str(tmp_path), "pets", store=str(tmp_path))
    assert "cannot be reached" in came[0]["message"]


@pytest.mark.parametrize("path", ["/broken", None])
def test_a_webhook_that_fails_is_logged_without_its_url(monkeypatch, webhook, caplog, path):
    monkeypatch.setattr(prefect.events, "emit_event", lambda *_, **__: None)
    url = f"{webhook[0]}/broken" if path else "http://127.0.0.1:9/secret"
    monkeypatch.setenv("VISIONFLOWS_WEBHOOK", url)
    monkeypatch.setattr(notifications.log, "propagate", True)
    with caplog.at_level("WARNING", logger="visionflows.notify"):
        monkeypatch.setattr(notifications.logging.getLogger("visionflows"), "propagate", True)
        notifications.report_failure(*failed())
    assert "not sent" in caplog.text
    assert "secret" not in caplog.text
    assert "127.0.0.1" not in caplog.text
